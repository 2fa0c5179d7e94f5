// Plays an HLS playlist: hls.js where there are Media Source Extensions, else the browser itself (Safari on iOS).

import { kilobits, make } from "./dom.js";

const HLS = "/static/vendor/hls.js/hls.min.mjs";
const WORKER = "/static/vendor/hls.js/hls.worker.js";
const STATS_EVERY_MS = 500;

/** Begins playback in `video`; `picker` offers the levels, `onStats` hears a line of text, `onLevel` the height in use. */
export async function play({ video, url, picker, onLevels, onLevel, onStats, onFailure }) {
  let Hls;
  try {
    ({ default: Hls } = await import(HLS));
  } catch {
    Hls = undefined;
  }
  if (Hls?.isSupported()) return withHls(Hls, { video, url, picker, onLevels, onLevel, onStats, onFailure });
  if (video.canPlayType("application/vnd.apple.mpegurl")) {
    video.src = url;
    video.addEventListener("error", () => onFailure("The browser could not play this video."));
    picker.disabled = true;
    onStats("Played by the browser itself, which chooses the quality.");
    return null;
  }
  onFailure(Hls ? "This browser cannot play streamed video." : "The player is not installed on this server.");
  return null;
}

function withHls(Hls, { video, url, picker, onLevels, onLevel, onStats, onFailure }) {
  const hls = new Hls({ workerPath: WORKER, capLevelToPlayerSize: true });
  let recoveries = 0;

  hls.on(Hls.Events.MANIFEST_PARSED, () => {
    const byHeight = hls.levels.map((level, index) => ({ level, index })).sort((a, b) => b.level.height - a.level.height);
    const shorter = ({ width, height }) => Math.min(width || height, height);
    const hasOneCodec = new Set(hls.levels.map(codecName)).size === 1;
    for (const { level, index } of byHeight) {
      const name = hasOneCodec ? [] : [codecName(level)];
      const text = [`${shorter(level)}p`, ...name, kilobits(level.bitrate / 1000)].join(" · ");
      picker.append(make("option", { value: index, text }));
    }
    onLevels(hls.levels.length);
  });
  hls.on(Hls.Events.LEVEL_SWITCHED, (_, { level }) => onLevel(hls.levels[level]));
  hls.on(Hls.Events.ERROR, (_, { fatal, type, details }) => {
    if (!fatal) return;
    recoveries += 1;
    if (recoveries > 3) {
      hls.destroy();
      onFailure(`Playback stopped: ${details}.`);
    } else if (type === Hls.ErrorTypes.NETWORK_ERROR) {
      setTimeout(() => hls.startLoad(), 1000 * recoveries);
    } else if (type === Hls.ErrorTypes.MEDIA_ERROR) {
      hls.recoverMediaError();
    } else {
      hls.destroy();
      onFailure(`Playback stopped: ${details}.`);
    }
  });
  picker.addEventListener("change", () => {
    hls.nextLevel = Number(picker.value);
  });

  hls.loadSource(url);
  hls.attachMedia(video);
  setInterval(() => onStats(stats(hls, video)), STATS_EVERY_MS);
  return hls;
}

/** "avc1.640028" → "H.264". */
function codecName({ videoCodec }) {
  return { avc1: "H.264", hvc1: "HEVC", av01: "AV1" }[videoCodec?.slice(0, 4)] ?? "";
}

function stats(hls, video) {
  const level = hls.levels[hls.currentLevel];
  if (!level) return "";
  const { buffered, currentTime } = video;
  let ahead = 0;
  for (let index = 0; index < buffered.length; index += 1) {
    if (buffered.start(index) <= currentTime + 0.1 && buffered.end(index) > currentTime) ahead = buffered.end(index) - currentTime;
  }
  const dropped = video.getVideoPlaybackQuality?.().droppedVideoFrames ?? 0;
  return [
    `${level.width} × ${level.height}`,
    `${kilobits(hls.bandwidthEstimate / 1000)} measured`,
    `${ahead.toFixed(0)} s buffered`,
    `${dropped} frames dropped`,
  ].join(" · ");
}
