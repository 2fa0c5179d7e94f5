"""Progress only ever grows, whatever is lost, repeated or begun again."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.progress import PUBLISHING_SHARE, Announcement, PlannedTask, Progress

SHARES = {"1080p": 0.5, "720p": 0.3, "audio": 0.2}
announcements = st.builds(
    lambda label, fraction, cost_share: Announcement(f"task-{label}", label, fraction, cost_share),
    st.sampled_from(sorted(SHARES)),
    st.floats(-0.5, 1.5),
    st.floats(0, 1),
)
plans = st.sets(st.sampled_from(sorted(SHARES))).map(
    lambda done: [PlannedTask(f"task-{label}", label, label in done, share) for label, share in SHARES.items()]
)


@given(st.lists(announcements | plans, max_size=30))
def test_no_fraction_ever_falls_or_leaves_its_range(happenings: list[Announcement | list[PlannedTask]]) -> None:
    progress = Progress()
    last, last_of_task = 0.0, dict.fromkeys(SHARES, 0.0)
    for happening in happenings:
        if isinstance(happening, Announcement):
            progress.hear(happening)
        else:
            progress.plan(happening)
        assert last <= progress.fraction <= 1 - PUBLISHING_SHARE
        last = progress.fraction
        for task in progress.tasks:
            assert last_of_task[task.label] <= task.fraction <= 1
            last_of_task[task.label] = task.fraction


def test_tasks_weigh_what_they_cost() -> None:
    progress = Progress()
    progress.plan([PlannedTask(f"task-{label}", label, label == "audio", share) for label, share in SHARES.items()])
    progress.hear(Announcement("task-1080p", "1080p", 0.5, 0.5))
    assert progress.fraction == (0.2 + 0.5 * 0.5) * (1 - PUBLISHING_SHARE)
    assert [(task.label, task.fraction) for task in progress.tasks] == [("1080p", 0.5), ("720p", 0.0), ("audio", 1.0)]


def test_of_a_plan_that_is_not_known_no_task_is_shown() -> None:
    progress = Progress()
    progress.hear(Announcement("video-001", "video-001", 1.0, 0.04))
    assert progress.tasks == []
    progress.plan([PlannedTask(f"video-{n:03}", f"video-{n:03}", False, 0.04) for n in range(1, 26)])
    assert progress.tasks[0].fraction < 0.05


def test_tasks_of_one_kind_are_shown_as_one() -> None:
    progress = Progress()
    shares = {"video-001": 0.5, "video-002-1080p": 0.25, "audio": 0.25}
    progress.plan([PlannedTask(label, label, False, share) for label, share in shares.items()])
    progress.hear(Announcement("video-001", "video-001", 0.5, 0.5))
    progress.hear(Announcement("video-002-1080p", "video-002-1080p", 0.25, 0.25))
    assert [(task.label, task.fraction) for task in progress.tasks] == [("video", (0.25 + 0.0625) / 0.75), ("audio", 0)]
    progress.hear(Announcement("video-001", "video-001", 1.0, 0.5))
    progress.hear(Announcement("video-002-1080p", "video-002-1080p", 1.0, 0.25))
    assert progress.tasks[0].fraction == 1.0


def test_all_done_is_not_yet_published() -> None:
    progress = Progress()
    progress.plan([PlannedTask("t", "image", True, 1.0)])
    assert progress.fraction == 1 - PUBLISHING_SHARE
