"""ffmpeg's command line as somebody who knows it well would write it, for the same ladder and segments.

One process decodes once, splits, scales and encodes all steps, and writes HLS with fragmented MP4 and one audio group.
x264 is set to veryfast and an average bit rate, capped: 1.07 times that, over a buffer of 1.5 s.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.transcoding import tools
from bench.transcoding.seam import Planned, Step

TARGETS_BPS: Mapping[str, int] = {"1080p": 5_000_000, "720p": 2_800_000, "480p": 1_400_000, "360p": 800_000}
"""What the expert spends on each step: the usual ladder."""

AUDIO_BPS = 128_000
_PRESET = "veryfast"

Settings = Callable[[Step], Mapping[str, str]]
"""The options of libx264 for a step."""


def own_settings(step: Step) -> Mapping[str, str]:
    """The expert's own."""
    target_bps = TARGETS_BPS[step.label]
    return {
        "preset": _PRESET,
        "profile": "high",
        "b": str(target_bps),
        "maxrate": str(target_bps * 107 // 100),
        "bufsize": str(target_bps * 3 // 2),
        "sc_threshold": "0",
    }


def borrowed_settings(step: Step) -> Mapping[str, str]:
    """Ours: preset, x264-params and capped CRF."""
    return step.x264_options


def one_process(source: Path, folder: Path, planned: Planned, settings: Settings) -> Sequence[str]:
    """All steps and the sound by one ffmpeg."""
    steps = planned.steps
    variants = [f"v:{number},agroup:audio,name:{step.label}" for number, step in enumerate(steps)]
    return [
        *_begin(source),
        *("-filter_complex", _split(planned)),
        *(part for number in range(len(steps)) for part in ("-map", f"[v{number}]")),
        *("-map", "0:a:0"),
        *_video(planned, [settings(step) for step in steps]),
        *_audio(),
        *_hls(folder, planned, "%v", "seg_%05d.m4s"),
        *("-master_pl_name", "master.m3u8"),
        *("-var_stream_map", " ".join([*variants, "a:0,agroup:audio,name:audio,default:yes"])),
        str(folder / "%v" / "stream.m3u8"),
    ]


def process_a_step(source: Path, folder: Path, planned: Planned, settings: Settings) -> Sequence[Sequence[str]]:
    """A process for each step; the first does the sound as well. Makes the folders: ffmpeg does so for `%v` alone."""
    for name in ("audio", *(step.label for step in planned.steps)):
        (folder / name).mkdir()
    commands = []
    for number, step in enumerate(planned.steps):
        scale = [] if _is_whole(step, planned) else ["-vf", f"scale={step.width_px}:{step.height_px}"]
        sound = ["-map", "0:a:0", *_audio(), *_hls(folder, planned, "audio", "seg_%05d.m4s")]
        commands.append(
            [
                *_begin(source),
                *("-map", "0:v:0", *scale, *_video(planned, [settings(step)])),
                *_hls(folder, planned, step.label, "seg_%05d.m4s"),
                str(folder / step.label / "stream.m3u8"),
                *([*sound, str(folder / "audio" / "stream.m3u8")] if number == 0 else []),
            ]
        )
    return commands


def _begin(source: Path) -> list[str]:
    return [tools.ffmpeg(), "-hide_banner", "-loglevel", "warning", "-nostdin", "-y", "-i", str(source)]


def _split(planned: Planned) -> str:
    """The source to as many sizes; what has the size of the source already is not scaled."""
    pads, chains = [], []
    for number, step in enumerate(planned.steps):
        pads.append(f"[v{number}]" if _is_whole(step, planned) else f"[s{number}]")
        if not _is_whole(step, planned):
            chains.append(f"[s{number}]scale={step.width_px}:{step.height_px}[v{number}]")
    return ";".join([f"[0:v:0]split={len(pads)}{''.join(pads)}", *chains])


def _is_whole(step: Step, planned: Planned) -> bool:
    return (step.width_px, step.height_px) == (planned.width_px, planned.height_px)


def _video(planned: Planned, settings: Sequence[Mapping[str, str]]) -> list[str]:
    gop = str(planned.gop_frames)
    options = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", gop, "-keyint_min", gop]
    for number, chosen in enumerate(settings):
        for name, value in chosen.items():
            options += [f"-{name}:v:{number}", value]
    return options


def _audio() -> list[str]:
    return ["-c:a", "aac", "-b:a", str(AUDIO_BPS), "-ac", "2", "-ar", "48000"]


def _hls(folder: Path, planned: Planned, name: str, segment: str) -> list[str]:
    return [
        *("-f", "hls", "-hls_time", str(float(planned.segment_frames / planned.frame_rate))),
        *("-hls_playlist_type", "vod", "-hls_segment_type", "fmp4", "-hls_flags", "independent_segments"),
        *("-hls_fmp4_init_filename", "init.mp4", "-hls_segment_filename", str(folder / name / segment)),
    ]
