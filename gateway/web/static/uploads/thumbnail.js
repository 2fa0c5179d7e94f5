// A small picture of a file: decoded here, drawn on a canvas. One at a time, since a photo takes 50 MB while it is decoded.

const LONGEST_PX = 192;
const LARGEST_IMAGE_BYTES = 60_000_000;
const GIVE_UP_MS = 8000;
const STILL_AT_S = 1;

let last = Promise.resolve();

/** Draws into the canvas; resolves to whether there is a picture. */
export function draw(file, contentType, canvas) {
  const mine = last.then(async () => {
    try {
      if (contentType.startsWith("video/")) return await drawVideo(file, canvas);
      if (file.size > LARGEST_IMAGE_BYTES) return false;
      const bitmap = await createImageBitmap(file);
      paint(bitmap, bitmap.width, bitmap.height, canvas);
      bitmap.close();
      return true;
    } catch {
      return false; // a format that this browser does not know
    }
  });
  last = mine;
  return mine;
}

async function drawVideo(file, canvas) {
  const url = URL.createObjectURL(file);
  const video = document.createElement("video");
  try {
    video.muted = true;
    video.preload = "auto";
    video.src = url;
    await event(video, "loadeddata");
    const seeked = event(video, "seeked");
    video.currentTime = Math.min(STILL_AT_S, (video.duration || 0) / 2);
    await seeked;
    if (!video.videoWidth) return false;
    paint(video, video.videoWidth, video.videoHeight, canvas);
    return true;
  } finally {
    video.removeAttribute("src");
    video.load();
    URL.revokeObjectURL(url);
  }
}

function event(target, name) {
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("too slow")), GIVE_UP_MS);
    target.addEventListener(name, resolve, { once: true });
    target.addEventListener("error", () => reject(new Error("not playable")), { once: true });
  });
}

function paint(source, width, height, canvas) {
  const scale = Math.min(1, LONGEST_PX / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.getContext("2d").drawImage(source, 0, 0, canvas.width, canvas.height);
}
