"""Which encoders a process has: by a registry that is made up, since no hardware is at hand; and the way to it."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from services.transcode.encoders import IN_SOFTWARE, PREFERENCES, EncoderMissing, Hardware, resolved
from services.transcode.engine.errors import EngineUnready
from services.transcode.engine.reading.remote_file import RemoteFile
from services.transcode.engine.run import execute, probe
from services.transcode.engine.video import availability
from services.transcode.engine.video.chunk import encode_chunk
from services.transcode.engine.video.encoder import VideoEncoder, opened_ahead
from services.transcode.engine.video.encoder_settings import settings_for
from services.transcode.formats import SOFTWARE, Codec
from services.transcode.ladder import ladder_of
from services.transcode.plan import Fleet, Output, plan
from services.transcode.specs import ChunkSpec, RenditionSpec
from tests.unit.transcode import sources
from tests.unit.transcode.test_encoder_codecs import timeline_of
from tests.unit.transcode.test_plan import PHOTO, SOURCE


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ({"h264_nvenc", "h264_qsv"}, "h264_nvenc"),
        ({"h264_qsv"}, "h264_qsv"),
        (set[str](), "libx264"),
    ],
)
def test_the_first_that_opens_is_taken(there: set[str], taken: str) -> None:
    encoders = resolved(Hardware.AUTO, there.__contains__)
    assert encoders.preferred == {**SOFTWARE, Codec.H264: taken}
    assert encoders.available == there | set(SOFTWARE.values()), "tasks of others are done all the same"


def test_off_asks_for_nothing() -> None:
    def never(encoder: str) -> bool:
        raise AssertionError(encoder)

    assert resolved(Hardware.OFF, never) is IN_SOFTWARE


def test_software_is_there_without_being_tried() -> None:
    asked: list[str] = []

    def never_opens(encoder: str) -> bool:
        asked.append(encoder)
        return False

    resolved(Hardware.AUTO, never_opens)
    assert asked == [name for names in PREFERENCES.values() for name in names if name not in SOFTWARE.values()]


def test_a_plan_names_one_encoder_for_all_chunks_and_who_lacks_it_refuses() -> None:
    encoders = resolved(Hardware.AUTO, {"h264_qsv"}.__contains__)
    specs = plan(SOURCE, output=Output(ladder_of(list(Codec), encoders.preferred)), fleet=Fleet(8))
    chunks = [spec for spec in specs if isinstance(spec, ChunkSpec)]
    named = {rendition.encoder for chunk in chunks for rendition in chunk.renditions}
    assert named == {"h264_qsv", "libx265", "libsvtav1"}
    for spec in (*specs, *plan(PHOTO)):
        encoders.check(spec)
    with pytest.raises(EncoderMissing, match="1080p is for h264_qsv"):
        IN_SOFTWARE.check(chunks[0])
    IN_SOFTWARE.check(chunks[-1])


def test_what_opens_is_found_out_in_a_process_of_its_own() -> None:
    assert availability.opens("libx264")
    assert not availability.opens("h264_vaapi")
    assert not availability.opens("no_such_encoder")


@pytest.mark.parametrize("encoder", ["h264_nvenc", "h264_qsv"])
def test_devices_are_set_to_the_same_grid_and_caps(encoder: str) -> None:
    """No more can be said without one."""
    spec = RenditionSpec("720p", 1280, 720, 19, 2_800_000, 4_200_000, encoder=encoder)
    settings = settings_for(spec, timeline_of(500))
    assert settings.encoder == encoder
    assert {settings.options[name] for name in ("g", "maxrate", "bufsize")} == {"50", "2800000", "4200000"}


def test_an_encoder_that_nobody_can_set_is_refused() -> None:
    spec = RenditionSpec("720p", 1280, 720, 19, 2_800_000, 4_200_000, encoder="h264_vaapi")
    with pytest.raises(ValueError, match="h264_vaapi"):
        settings_for(spec, timeline_of(500))


async def test_a_device_that_takes_no_more_is_nobodys_fault(sample: bytes) -> None:
    """Here there is none at all, which looks the same to the child: it does not open."""
    source = await probe(sources.BytesSource(sample), sources.LIMITS)
    spec, _ = sources.specs_of(source)
    renditions = tuple(replace(one, encoder="h264_nvenc") for one in spec.renditions)
    file = sources.BytesSource(sample)
    with pytest.raises(EngineUnready, match="could not get ready"):
        await execute(replace(spec, renditions=renditions), file, sources.LIMITS, sink=sources.Shelf().put)


class Artifacts(dict[str, bytes]):
    """A reporter that keeps what is handed over."""

    def artifact(self, name: str, content_type: str, data: bytes) -> None:
        self[name] = data

    def progress(self, fraction: float) -> None:
        """Kept from nobody."""

    def stage(self, name: str, start_unix_ns: int, attributes: Mapping[str, str | int | float]) -> None:
        """Likewise."""


async def test_encoders_that_were_opened_ahead_make_the_same(sample: bytes) -> None:
    """As a device's are, before the sandbox is shut; here those of software stand in."""
    source = await probe(sources.BytesSource(sample), sources.LIMITS)
    spec, _ = sources.specs_of(source)
    assert opened_ahead(spec, 1) == {}, "software is opened behind the sandbox"

    def made(opened: Mapping[str, VideoEncoder]) -> Artifacts:
        artifacts = Artifacts()
        file = RemoteFile(lambda offset, length: sample[offset : offset + length], len(sample))
        encode_chunk(spec, file, sources.LIMITS, artifacts, opened)
        return artifacts

    ahead = {one.label: VideoEncoder(one, spec.timeline, 1) for one in spec.renditions}
    assert made(ahead) == made({})
    with pytest.raises(EOFError):
        list(ahead["180p"].flush())  # they were used
