"""Settings of the transcode service, from `MILLRACE_…` variables."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from services.runtime.settings import NatsSettings, S3Settings, TargetSettings
from services.runtime.topology import LANES
from services.transcode import machine
from services.transcode.encoders import Encoders, Hardware
from services.transcode.engine.limits import Limits
from services.transcode.formats import Codec, ImageFormat, Packaging
from services.transcode.ladder import IMAGE_FORMATS, ladder_of
from services.transcode.plan import Fleet, Output
from services.transcode.specs import LoudnessTarget

_MIB = 1 << 20
_GB = 1_000_000_000


def _memory_mib() -> int:
    """Three quarters of what this process may have: the rest is for itself, for probes, and for what was misjudged."""
    return max(256, machine.memory_bytes() * 3 // 4 // _MIB)


class TranscodeSettings(S3Settings, NatsSettings, TargetSettings):
    """What a process plans and encodes, how much at once, and within which bounds."""

    transcode_listen: str = "127.0.0.1:7103"
    transcode_lanes: Annotated[tuple[str, ...], NoDecode] = Field(
        LANES, description="lanes this process works on, separated by commas; empty for a process that only plans"
    )
    transcode_planner_slots: int = Field(2, ge=0, le=64, description="probes at once; 0 for a process that never plans")
    transcode_verification_slots: int = Field(
        4, ge=1, le=64, description="originals at once whose checksum is verified; each takes two blocks of 8 MiB"
    )
    transcode_video_slots: int = Field(
        default_factory=machine.cores,
        ge=1,
        le=256,
        description="encodes at once; one fills a core. By default as many as there are cores, or as the control group"
        " has a share of",
    )
    transcode_fleet_video_slots: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="encodes that all processes together have in hand at once; videos are cut so that they suffice. "
        "Unset, this process is the whole fleet",
    )
    transcode_pass_through: bool = Field(
        True,
        description="publish packets of originals that already are what the largest rendition shall be; not in MPEG-TS",
    )
    transcode_per_title: bool = Field(
        False,
        description="encode a few moments of videos of two minutes and more, and leave out steps nobody would choose",
    )
    transcode_image_slots: int = Field(2, ge=1, le=256)
    transcode_image_formats: Annotated[tuple[ImageFormat, ...], NoDecode] = Field(
        IMAGE_FORMATS,
        description="what stills are written as, separated by commas: jpeg, which is always among them, webp, avif",
    )
    transcode_audio_slots: int = Field(1, ge=1, le=256)

    transcode_codecs: Annotated[tuple[Codec, ...], NoDecode] = Field(
        (Codec.H264,),
        min_length=1,
        description="codecs that new videos get, separated by commas: h264, then any of hevc and av1",
    )
    transcode_packaging: Packaging = Field(
        Packaging.CMAF, description="cmaf, or ts for players from before 2016; ts carries h264 alone"
    )
    transcode_loudness_lufs: float | None = Field(
        None,
        ge=-50.0,
        le=-5.0,
        description="integrated loudness of all sound, by EBU R 128; unset, it stays as it came",
    )
    transcode_true_peak_ceiling_dbtp: float = Field(
        -1.0, ge=-20.0, le=0.0, description="where loudness is set: no peak of the sound is above"
    )
    transcode_hardware: Hardware = Field(
        Hardware.OFF,
        description="auto plans H.264 for an encoder in hardware if one opens where the planner runs; off for none",
    )

    task_lease_s: float = Field(30.0, ge=1.0, le=600.0, description="a dead worker's task waits this long")
    transcode_grace_s: float = Field(20.0, ge=0.0, le=3600.0, description="for tasks in hand when told to stop")

    transcode_probe_wall_clock_s: float = Field(
        45.0, ge=1.0, le=600.0, description="besides the time that reading the whole original may take"
    )
    transcode_image_wall_clock_s: float = Field(300.0, ge=1.0)
    transcode_video_wall_clock_s: float = Field(4 * 3600.0, ge=1.0)
    transcode_stall_s: float = Field(30.0, ge=1.0, description="a child without progress is ended after this long")
    transcode_child_memory_mib: int = Field(3 * 1024, ge=256, description="address space of one child")
    transcode_require_sandbox: bool = Field(
        False, description="refuse to start where the kernel lacks a layer of the sandbox, instead of going on without"
    )
    transcode_memory_mib: int = Field(
        default_factory=_memory_mib,
        ge=256,
        description="what all children of tasks may need together; by default three quarters of the machine's, or of"
        " the control group's: divide it where several processes share a machine",
    )
    transcode_max_duration_s: int = Field(4 * 3600, ge=1, description="longer videos are refused")

    upload_max_image_bytes: int = Field(
        200_000_000, ge=1, le=50 * _GB, description="the upload service's limit, held again for what the bytes are"
    )
    upload_max_video_bytes: int = Field(50 * _GB, ge=1, le=5_000 * _GB, description="likewise")

    @field_validator("transcode_lanes", "transcode_codecs", "transcode_image_formats", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, value.replace(" ", "").split(","))) if isinstance(value, str) else value

    @field_validator("transcode_lanes")
    @classmethod
    def _known(cls, lanes: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(lanes) - set(LANES):
            msg = f"no such lane: {', '.join(sorted(unknown))}; there are {', '.join(LANES)}"
            raise ValueError(msg)
        return lanes

    @field_validator("transcode_image_formats")
    @classmethod
    def _with_jpeg(cls, formats: tuple[ImageFormat, ...]) -> tuple[ImageFormat, ...]:
        if ImageFormat.JPEG not in formats:
            msg = "jpeg must be among the formats: some viewers show no other"
            raise ValueError(msg)
        return tuple(one for one in ImageFormat if one in formats)

    @field_validator("transcode_codecs")
    @classmethod
    def _for_everyone(cls, codecs: tuple[Codec, ...]) -> tuple[Codec, ...]:
        if codecs[0] is not Codec.H264:
            raise ValueError("h264 comes first: it is what every player knows")
        if len(set(codecs)) != len(codecs):
            raise ValueError("a codec is named twice")
        return codecs

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.transcode_packaging is Packaging.TS and self.transcode_codecs != (Codec.H264,):
            raise ValueError("MPEG-TS carries h264 alone: players of hevc and av1 know CMAF")
        return self

    @property
    def slots(self) -> dict[str, int]:
        """Tasks in hand at once, by lane that this process works on."""
        sizes = {
            "video": self.transcode_video_slots,
            "image": self.transcode_image_slots,
            "audio": self.transcode_audio_slots,
        }
        return {lane: sizes[lane] for lane in self.transcode_lanes}

    @property
    def fleet(self) -> Fleet:
        """Who works on what this process plans."""
        return Fleet(self.transcode_fleet_video_slots or self.transcode_video_slots)

    def output(self, encoders: Encoders) -> Output:
        """What originals shall become, made by the encoders that a planner prefers."""
        return Output(
            ladder=ladder_of(self.transcode_codecs, encoders.preferred),
            packaging=self.transcode_packaging,
            pass_through=self.transcode_pass_through,
            loudness=self.loudness,
            image_formats=self.transcode_image_formats,
        )

    @property
    def loudness(self) -> LoudnessTarget | None:
        """How loud sound is to be; None leaves it as it is."""
        if self.transcode_loudness_lufs is None:
            return None
        return LoudnessTarget(self.transcode_loudness_lufs, self.transcode_true_peak_ceiling_dbtp)

    @property
    def lease(self) -> timedelta:
        """How long a claim lasts without renewal."""
        return timedelta(seconds=self.task_lease_s)

    @property
    def grace(self) -> timedelta:
        """How long tasks in hand may go on after a stop."""
        return timedelta(seconds=self.transcode_grace_s)

    @property
    def memory_bytes(self) -> int:
        """What is shared out among tasks."""
        return self.transcode_memory_mib * _MIB

    @property
    def probe_limits(self) -> Limits:
        """Bounds of a probe."""
        return self._limits(self.transcode_probe_wall_clock_s)

    @property
    def limits(self) -> dict[str, Limits]:
        """Bounds of a task's child, by lane."""
        return {
            "video": self._limits(self.transcode_video_wall_clock_s),
            "image": self._limits(self.transcode_image_wall_clock_s),
            "audio": self._limits(self.transcode_video_wall_clock_s),
        }

    def _limits(self, wall_clock_s: float) -> Limits:
        return Limits(
            wall_clock_s=wall_clock_s,
            stall_s=self.transcode_stall_s,
            address_space_bytes=self.transcode_child_memory_mib * _MIB,
            max_image_bytes=self.upload_max_image_bytes,
            max_video_bytes=self.upload_max_video_bytes,
            max_duration_s=self.transcode_max_duration_s,
        )
