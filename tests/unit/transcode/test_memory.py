"""Estimates are near to what was measured, rather above than below, and travel with the task."""

import io
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from services.transcode import machine, memory
from services.transcode.engine.outcome import Stage
from services.transcode.engine.run import execute, probe
from services.transcode.plan import Fleet, plan
from services.transcode.settings import TranscodeSettings
from services.transcode.source import (
    ColourInfo,
    ContainerFormat,
    ImageInfo,
    MediaKind,
    SourceInfo,
    VideoStreamInfo,
)
from services.transcode.specs import ChunkSpec, PosterSpec
from tests.unit.transcode import sources

MIB = 1 << 20


def video(width_px: int, height_px: int, pix_fmt: str) -> SourceInfo:
    stream = VideoStreamInfo(
        0, "h264", pix_fmt, width_px, height_px, width_px, height_px, 0, Fraction(1), Fraction(30), 300, Fraction(0),
        False, ColourInfo(1, 1, 1, False), True, Fraction(1), None,
    )  # fmt: skip
    return SourceInfo(MediaKind.VIDEO, ContainerFormat.MP4, 1_000_000, Fraction(10), stream, (), None)


MEASURED = [
    (640, 360, "yuv420p", 84, 55), (1280, 720, "yuv420p", 240, 69), (1920, 1080, "yuv420p", 475, 84),
    (1920, 1080, "yuv420p10le", 501, 103), (3840, 2160, "yuv420p", 557, 160), (3840, 2160, "yuv420p10le", 675, 243),
]  # fmt: skip


@pytest.mark.parametrize(("width_px", "height_px", "pix_fmt", "chunk_mib", "poster_mib"), MEASURED)
def test_estimates_of_videos(width_px: int, height_px: int, pix_fmt: str, chunk_mib: int, poster_mib: int) -> None:
    source = video(width_px, height_px, pix_fmt)
    specs = plan(source, fleet=Fleet(1))
    chunk = next(memory.need_of(spec, source) for spec in specs if isinstance(spec, ChunkSpec))
    poster = next(memory.need_of(spec, source) for spec in specs if isinstance(spec, PosterSpec))
    assert chunk_mib * MIB <= chunk <= 1.2 * chunk_mib * MIB
    assert poster_mib * MIB <= poster <= 3 * poster_mib * MIB


def test_more_costs_more() -> None:
    def need(*of: object) -> int:
        source = video(*of)  # type: ignore[arg-type]
        return memory.need_of(plan(source, fleet=Fleet(1))[0], source)

    needs = [need(1920, 1080, pix_fmt) for pix_fmt in ("yuv420p", "yuv420p10le", "yuv444p10le")]
    assert needs == sorted(set(needs))
    assert need(1920, 1080, "yuv420p") < need(3840, 2160, "yuv420p") < need(7680, 4320, "yuv420p")
    assert need(1920, 1080, "nv12") == need(1920, 1080, "yuv420p")


def test_an_image_needs_what_its_pixels_need() -> None:
    image = ImageInfo(12_000, 4_000, 1, has_alpha=True, is_animated=False)
    source = SourceInfo(MediaKind.IMAGE, ContainerFormat.PNG, 1, Fraction(0), None, (), image)
    large = memory.need_of(plan(source)[0], source)
    small = memory.need_of(plan(source)[0], replace(source, image=replace(image, width_px=1_200)))
    assert 10 * small > large > 5 * small
    assert large > 700 * MIB
    photo = replace(source, container=ContainerFormat.JPEG)
    assert 400 * MIB < memory.need_of(plan(photo)[0], photo) < large * 0.6


async def test_a_child_stays_below_its_estimate(sample: bytes) -> None:
    source, stages = await probe(sources.BytesSource(sample), sources.LIMITS), list[Stage]()
    spec = plan(source, fleet=Fleet(1))[0]
    sink, limits = sources.Shelf().put, sources.LIMITS
    await execute(spec, sources.BytesSource(sample), limits, sink=sink, on_stage=stages.append)
    [peak_bytes] = [int(stage.attributes["max_rss_bytes"]) for stage in stages if stage.name == "child"]
    assert 0.4 * memory.need_of(spec, source) < peak_bytes <= memory.need_of(spec, source)


async def test_a_progressive_photo_for_print_stays_below_its_estimate() -> None:
    buffer = io.BytesIO()
    photo = Image.effect_noise((4_000, 3_000), 60).convert("RGB").convert("CMYK")
    photo.save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    source, stages = await probe(sources.BytesSource(data), sources.LIMITS), list[Stage]()
    spec = plan(source)[0]
    sink, limits = sources.Shelf().put, sources.LIMITS
    await execute(spec, sources.BytesSource(data), limits, sink=sink, on_stage=stages.append)
    [peak_bytes] = [int(stage.attributes["max_rss_bytes"]) for stage in stages if stage.name == "child"]
    assert 0.7 * memory.need_of(spec, source) < peak_bytes <= memory.need_of(spec, source)


@pytest.mark.parametrize(
    ("membership", "root", "name", "without"),
    [
        ("0::/a.slice/b.service", "", "memory.max", "max"),
        ("5:cpu:/c\n4:hugetlb,memory:/a.slice/b.service\n0::/", "memory", "memory.limit_in_bytes", str(2**63 - 4096)),
    ],
    ids=["version 2", "version 1"],
)
def test_the_smallest_limit_of_a_control_group_and_those_around_it_counts(
    tmp_path: Path, membership: str, root: str, name: str, without: str
) -> None:
    groups, mount = tmp_path / "membership", tmp_path / "mount"
    groups.write_text(f"{membership}\n")
    service = mount / root / "a.slice" / "b.service"
    service.mkdir(parents=True)
    whole = machine.memory_bytes(groups, mount)
    assert whole > 1 << 28
    for group, limit, least in [
        (service, without, whole),
        (service.parent, f"{8 << 20}", 8 << 20),
        (service, f"{4 << 20}", 4 << 20),
        (service.parent, f"{2 << 20}", 2 << 20),
        (service.parent.parent, f"{1 << 20}", 1 << 20),
        (service.parent / "c.service", "1", 1 << 20),  # another's
    ]:
        group.mkdir(exist_ok=True)
        (group / name).write_text(f"{limit}\n")
        assert machine.memory_bytes(groups, mount) == least


def test_a_container_that_is_told_its_hosts_path_sees_its_limit_all_the_same(tmp_path: Path) -> None:
    groups = tmp_path / "membership"
    groups.write_text("0::/../docker/4f53fe91\n")
    (tmp_path / "memory.max").write_text("1048576\n")
    assert machine.memory_bytes(groups, tmp_path) == 1 << 20
    assert machine.memory_bytes(tmp_path / "none", tmp_path) > 1 << 28


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({"cpu.cfs_quota_us": "100000", "cpu.cfs_period_us": "100000"}, 1),
        ({"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "99900000 100000"}, None),
        ({}, None),
    ],
)
def test_a_share_of_time_counts_as_cores(tmp_path: Path, limits: dict[str, str], cores: int | None) -> None:
    groups, service = tmp_path / "membership", tmp_path / "a.slice"
    service.mkdir()
    groups.write_text("0::/a.slice/b.service\n")
    for name, limit in limits.items():
        (service / name).write_text(f"{limit}\n")
    assert machine.cores(groups, tmp_path) == (cores or len(os.sched_getaffinity(0)))


def test_the_budget_is_a_share_of_the_machine() -> None:
    assert 0.7 < TranscodeSettings().memory_bytes / machine.memory_bytes() <= 0.75
    assert TranscodeSettings(transcode_memory_mib=1_000).memory_bytes == 1_000 * MIB
