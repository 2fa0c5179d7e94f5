"""No sequence of moves ever goes back, and the decisions around a claim."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metadata import state
from services.metadata.records import Media, MediaStatus, MediaType, Task, TaskId, TaskState, UploadKind, UploadState
from services.metadata.state import Claimed, Exhausted, Held, Obsolete, RetryPolicy
from services.runtime import ids
from services.runtime.errors import FailedPrecondition, Stale
from services.runtime.ids import UserId

NOW = datetime(2026, 11, 22, tzinfo=UTC)
POLICY = RetryPolicy()
HELD_FOR = timedelta(seconds=7)

statuses = st.sampled_from(MediaStatus)
task_states = st.sampled_from(TaskState)


def media_in(status: MediaStatus, generation: int = 1) -> Media:
    media_id = ids.new_media_id("alice")
    return Media(
        shard=ids.shard_of_user("alice"),
        media_id=media_id,
        user_id=UserId("alice"),
        type=MediaType.VIDEO,
        status=status,
        generation=generation,
        s3_key="k",
        size_bytes=1,
        filename="f",
        content_type="video/mp4",
        original_etag="e",
        delivery_prefix="p",
        source_json=None,
        s3_manifest_key=None,
        failure=None,
        traceparent="",
        created_at=NOW,
        updated_at=NOW,
        planned_at=NOW,
        published_at=None,
        checksum_algorithm=None,
        checksum=None,
    )


def task_in(
    task_state: TaskState, *, attempt: int = 0, released: int = 0, lease_left: timedelta = timedelta(0)
) -> Task:
    shard = ids.shard_of_user("alice")
    return Task(
        shard=shard,
        task_id=TaskId(ids.new_id(shard)),
        media_id=ids.new_media_id("alice"),
        generation=1,
        ordinal=0,
        label="720p",
        lane="video",
        spec_json="{}",
        cost_share=1.0,
        memory_bytes=0,
        state=task_state,
        attempt=attempt,
        released=released,
        claim_id=uuid.uuid4(),
        lease_left=lease_left,
    )


def moved(
    moves: Mapping[MediaStatus, frozenset[MediaStatus]], start: MediaStatus, wishes: Sequence[MediaStatus]
) -> list[MediaStatus]:
    """The states passed through when only allowed wishes are granted."""
    passed = [start]
    for wish in wishes:
        if state.may_move(moves, passed[-1], wish):
            passed.append(wish)
    return passed


@given(st.lists(statuses, max_size=20))
def test_no_sequence_of_moves_takes_a_media_back(wishes: list[MediaStatus]) -> None:
    rank = {
        MediaStatus.UPLOADING: 0,
        MediaStatus.PROCESSING: 1,
        MediaStatus.PUBLISHED: 2,
        MediaStatus.FAILED: 2,
    }
    passed = moved(state.MEDIA_MOVES, MediaStatus.UPLOADING, wishes)
    ranks = [rank[status] for status in passed]
    assert all(before < after for before, after in pairwise(ranks))


@given(st.sampled_from(sorted(state.FINAL_MEDIA)), statuses)
def test_a_final_media_never_moves(final: MediaStatus, wish: MediaStatus) -> None:
    assert not state.may_move(state.MEDIA_MOVES, final, wish)


@given(st.sampled_from(sorted(state.FINAL_TASKS)), task_states)
def test_a_final_task_never_moves(final: TaskState, wish: TaskState) -> None:
    assert not state.may_move(state.TASK_MOVES, final, wish)


@pytest.mark.parametrize("final", [UploadState.COMPLETED, UploadState.ABORTED])
@pytest.mark.parametrize("wish", list(UploadState))
def test_a_final_upload_never_moves(final: UploadState, wish: UploadState) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        state.check_upload_move(final, wish)
    assert caught.value.reason == f"UPLOAD_{final.upper()}"


@pytest.mark.parametrize("before", [UploadState.OPEN, UploadState.COMPLETING])
def test_an_upload_completes_when_storage_says_so(before: UploadState) -> None:
    state.check_upload_move(before, UploadState.COMPLETED)


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    attempt = draw(st.integers(0, 6))
    return task_in(
        draw(task_states),
        attempt=attempt,
        released=draw(st.integers(0, attempt)),
        lease_left=draw(st.sampled_from([timedelta(0), HELD_FOR])),
    )


@given(statuses, st.integers(1, 3), tasks())
def test_a_claim_grows_the_attempt_and_never_takes_what_is_held_or_done(
    status: MediaStatus, generation: int, task: Task
) -> None:
    match state.decide_claim(media_in(status, generation), task, POLICY):
        case Claimed(number):
            assert number == task.attempt + 1
            assert task.state in {TaskState.QUEUED, TaskState.LEASED}
            assert (status, generation) == (MediaStatus.PROCESSING, 1)
            assert task.attempt - task.released < POLICY.max_attempts
            assert not (task.state is TaskState.LEASED and task.lease_left)
        case Held(retry_after):
            assert (task.state, retry_after) == (TaskState.LEASED, HELD_FOR)
        case Obsolete():
            assert status is not MediaStatus.PROCESSING or generation != 1 or task.state in state.FINAL_TASKS
        case Exhausted():
            assert task.attempt - task.released >= POLICY.max_attempts


@given(st.lists(st.sampled_from(["die", "release", "fault"]), max_size=30))
def test_a_task_gets_exactly_its_attempts_however_they_end(endings: list[str]) -> None:
    media, task, faults = media_in(MediaStatus.PROCESSING), task_in(TaskState.QUEUED), 0
    for ending in endings:
        match state.decide_claim(media, task, POLICY):
            case Claimed(attempt):
                assert faults < POLICY.max_attempts
                released = task.released + (ending == "release")
                faults += ending != "release"
                after = TaskState.LEASED if ending == "die" else TaskState.QUEUED
                task = replace(task, attempt=attempt, released=released, state=after)
            case Exhausted():
                assert faults == POLICY.max_attempts
            case other:
                pytest.fail(f"{other}")


def test_the_latest_attempt_passes_even_when_its_lease_ran_out() -> None:
    media = media_in(MediaStatus.PROCESSING)
    state.check_attempt(media, task_in(TaskState.LEASED, attempt=2, lease_left=HELD_FOR), 2)
    state.check_attempt(media, task_in(TaskState.LEASED, attempt=2), 2)
    state.check_attempt(media, task_in(TaskState.QUEUED, attempt=2), 2)


@pytest.mark.parametrize(
    ("status", "task_state", "latest", "attempt"),
    [
        (MediaStatus.PROCESSING, TaskState.LEASED, 2, 1),
        (MediaStatus.PROCESSING, TaskState.LEASED, 1, 2),
        (MediaStatus.PROCESSING, TaskState.QUEUED, 0, 0),
        (MediaStatus.PROCESSING, TaskState.DONE, 1, 1),
        (MediaStatus.PROCESSING, TaskState.FAILED, 1, 1),
        (MediaStatus.FAILED, TaskState.LEASED, 1, 1),
        (MediaStatus.PUBLISHED, TaskState.LEASED, 1, 1),
    ],
)
def test_whoever_was_overtaken_is_stale(status: MediaStatus, task_state: TaskState, latest: int, attempt: int) -> None:
    with pytest.raises(Stale):
        state.check_attempt(media_in(status), task_in(task_state, attempt=latest), attempt)


def test_an_attempt_of_an_older_generation_is_stale() -> None:
    with pytest.raises(Stale):
        state.check_attempt(media_in(MediaStatus.PROCESSING, 2), task_in(TaskState.LEASED, attempt=1), 1)


def test_a_generation_is_current_only_while_it_is_processed() -> None:
    state.check_generation(media_in(MediaStatus.PROCESSING), 1)
    with pytest.raises(FailedPrecondition):
        state.check_generation(media_in(MediaStatus.UPLOADING), 1)
    for status, generation in ((MediaStatus.PROCESSING, 2), (MediaStatus.FAILED, 1), (MediaStatus.PUBLISHED, 1)):
        with pytest.raises(Stale):
            state.check_generation(media_in(status), generation)


@given(st.integers(1, 1_000), st.floats(0, 1))
def test_backoff_grows_and_is_bounded(faults: int, jitter: float) -> None:
    wait = POLICY.backoff(faults, jitter)
    assert POLICY.first_backoff / 2 <= wait <= POLICY.longest_backoff
    assert POLICY.backoff(faults + 1, jitter) >= wait


SECOND = timedelta(seconds=1)
IN_PIECES = (UploadKind.MULTIPART, UploadKind.PUT)


@pytest.mark.parametrize(
    ("kinds", "entered", "wait"),
    [
        ([UploadKind.FORM], UploadState.OPEN, SECOND),
        (IN_PIECES, UploadState.OPEN, None),
        (UploadKind, UploadState.COMPLETING, 60 * SECOND),
        ([UploadKind.FORM], UploadState.COMPLETED, 0 * SECOND),
        (IN_PIECES, UploadState.COMPLETED, None),
        (UploadKind, UploadState.ABORTED, 0 * SECOND),
    ],
)
def test_when_the_objects_of_an_upload_are_looked_after(
    kinds: Sequence[UploadKind], entered: UploadState, wait: timedelta | None
) -> None:
    assert {state.look_after(kind, entered) for kind in kinds} == {wait}


@given(st.sampled_from(UploadKind))
def test_whatever_nobody_may_come_back_to_is_looked_after(kind: UploadKind) -> None:
    for entered in (UploadState.COMPLETING, UploadState.ABORTED):
        assert state.look_after(kind, entered) is not None
