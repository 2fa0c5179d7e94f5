"""What the servicer refuses, and what it makes of what it takes."""

import math
from collections.abc import Callable
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from media.v1 import media_pb2
from media.v1.metadata_service_pb2 import PlannedTask
from services.metadata import from_pb, to_pb, uploads
from services.metadata.records import ChecksumAlgorithm, MediaStatus, MediaType, UploadKind, UploadState
from services.runtime.errors import InvalidArgument, NotFound
from tests.integration.metadata.calls import THUMBHASH, stills_of, track_of


def planned(label: str = "720p", lane: str = "video", spec: str = "{}", share: float = 1.0) -> PlannedTask:
    return PlannedTask(label=label, lane=lane, spec_json=spec, cost_share=share)


def culprit(error: pytest.ExceptionInfo[InvalidArgument]) -> str:
    return error.value.details["field"]


@pytest.mark.parametrize(
    ("tasks", "field"),
    [
        ([], "tasks"),
        ([planned(share=0.5), planned(share=0.5)], "tasks.label"),
        ([planned(lane="bulk")], "tasks.lane"),
        ([planned(label="")], "tasks.label"),
        ([planned(share=0.9)], "tasks.cost_share"),
        ([planned("a", share=-1), planned("b", share=2)], "tasks.cost_share"),
        ([planned(share=math.nan)], "tasks.cost_share"),
        ([PlannedTask(label="a", lane="video", spec_json="{}", cost_share=1, memory_bytes=-1)], "tasks.memory_bytes"),
        ([planned(spec="nonsense")], "tasks.spec_json"),
        ([planned(spec="[]")], "tasks.spec_json"),
        ([planned(spec='{"a": NaN}')], "tasks.spec_json"),
    ],
)
def test_plans_that_cannot_be_worked_off_are_refused(tasks: list[PlannedTask], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        from_pb.plan(tasks)
    assert culprit(caught) == field


@pytest.mark.parametrize("text", ["", "x" * 129, "a\nb", "a\x00b", "\x7f"])
def test_user_ids_are_short_and_printable(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        from_pb.user(text)
    assert culprit(caught) == "user_id"


@pytest.mark.parametrize("span", [timedelta(0), timedelta(seconds=-1), timedelta(hours=2)])
def test_durations_have_bounds(span: timedelta) -> None:
    with pytest.raises(InvalidArgument):
        from_pb.duration("lease", to_pb.duration(span), longest=timedelta(hours=1))


def test_an_unset_duration_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        from_pb.duration("lease", Duration(), longest=timedelta(hours=1))


def test_a_malformed_task_id_names_no_task() -> None:
    with pytest.raises(NotFound):
        from_pb.task_id("7")


def test_types_and_statuses_travel_both_ways() -> None:
    assert [from_pb.media_type(to_pb.media_type(value)) for value in MediaType] == list(MediaType)
    assert [from_pb.media_status(to_pb.media_status(value)) for value in MediaStatus] == list(MediaStatus)
    assert from_pb.media_status(media_pb2.MEDIA_STATUS_UNSPECIFIED) is None
    with pytest.raises(InvalidArgument):
        from_pb.media_type(media_pb2.MEDIA_TYPE_UNSPECIFIED)


def test_kinds_states_and_algorithms_travel_both_ways() -> None:
    assert [from_pb.upload_kind(to_pb.KINDS[kind]) for kind in UploadKind] == list(UploadKind)
    assert [from_pb.upload_state(to_pb.UPLOAD_STATES[state]) for state in UploadState] == list(UploadState)
    algorithms = [None, *ChecksumAlgorithm]
    assert [from_pb.checksum_algorithm(to_pb.ALGORITHMS[algorithm]) for algorithm in algorithms] == algorithms


def test_callers_from_before_there_were_kinds_mean_parts() -> None:
    assert from_pb.upload_kind(media_pb2.UPLOAD_KIND_UNSPECIFIED) is UploadKind.MULTIPART


@pytest.mark.parametrize(
    ("read", "field"),
    [
        (lambda: from_pb.upload_kind(99), "kind"),  # type: ignore[arg-type]
        (lambda: from_pb.upload_state(0), "state"),  # type: ignore[arg-type]
        (lambda: from_pb.checksum_algorithm(99), "checksum_algorithm"),  # type: ignore[arg-type]
        (lambda: from_pb.checksum("x" * 65), "checksum"),
        (lambda: from_pb.checksum("a\nb"), "checksum"),
        (lambda: from_pb.not_negative("size_bytes", -1), "size_bytes"),
        (lambda: from_pb.fingerprint(bytes(31)), "fingerprint"),
        (lambda: from_pb.operation_id("7"), "operation_id"),
        (lambda: from_pb.claim_id("7"), "claim_id"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_makes_no_sense_is_refused(read: Callable[[], object], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read()
    assert culprit(caught) == field


def test_a_call_without_a_name_gets_one_of_its_own() -> None:
    assert from_pb.claim_id("") != from_pb.claim_id("")
    name = str(from_pb.claim_id(""))
    assert str(from_pb.claim_id(name)) == name


def test_a_failure_message_is_made_fit_to_print() -> None:
    failure = from_pb.failure(media_pb2.Failure(reason="bad", message="a\x00b\n" + "x" * 5_000))
    assert failure.message.startswith("a b xxx")
    assert len(failure.message) == from_pb.MAX_TEXT


def test_a_track_becomes_the_facts_of_its_rendition() -> None:
    result = from_pb.result(media_pb2.TaskResult(track=track_of("1080p", "prefix/1080p/a1")))
    assert result.track is not None
    assert (result.track.duration_secs, result.track.bitrate_kbps, result.track.peak_bitrate_kbps) == (
        12.0,
        2_000,
        2_501,
    )
    assert len(result.s3_keys) == 4
    assert media_pb2.TaskResult.FromString(result.body).track.label == "1080p"


def test_stills_become_thumbnails() -> None:
    result = from_pb.result(media_pb2.TaskResult(stills=stills_of("prefix/image/a1", (1_200, 150))))
    assert [(still.size_px, still.s3_key) for still in result.thumbnails] == [
        (1_200, "prefix/image/a1/1200.jpg"),
        (150, "prefix/image/a1/150.jpg"),
    ]
    both = from_pb.result(media_pb2.TaskResult(stills=stills_of("prefix/image/a1", (150,), ("jpeg", "avif"))))
    assert [(still.content_type, still.thumbhash) for still in both.thumbnails] == [
        ("image/jpeg", THUMBHASH),
        ("image/avif", THUMBHASH),
    ]


def _with_thumbhash(value: bytes) -> media_pb2.Stills:
    stills = stills_of("p", (150,))
    stills.items[0].thumbnail.thumbhash = value
    return stills


def _broken(**fields: int) -> media_pb2.Track:
    track = track_of("1080p", "p")
    for name, value in fields.items():
        setattr(track, name, value)
    return track


@pytest.mark.parametrize(
    "result",
    [
        media_pb2.TaskResult(),
        media_pb2.TaskResult(stills=media_pb2.Stills()),
        media_pb2.TaskResult(stills=stills_of("p", (150, 150))),
        media_pb2.TaskResult(stills=_with_thumbhash(bytes(33))),
        media_pb2.TaskResult(track=media_pb2.Track(label="x", timescale=1, codecs="c")),
        media_pb2.TaskResult(track=_broken(timescale=0)),
        media_pb2.TaskResult(track=_broken(average_bps=-1)),
        media_pb2.TaskResult(track=_broken(peak_bps=2**62)),
        media_pb2.TaskResult(track=_broken(width_px=-2)),
    ],
)
def test_results_that_say_nothing_are_refused(result: media_pb2.TaskResult) -> None:
    with pytest.raises(InvalidArgument):
        from_pb.result(result)


@given(st.integers(1, 50))
def test_tokens_are_letters_and_digits_and_never_the_same(count: int) -> None:
    tokens = {uploads.new_token() for _ in range(count)}
    assert len(tokens) == count
    assert all(token.isascii() and token.isalnum() and len(token) == uploads.TOKEN_LENGTH for token in tokens)
