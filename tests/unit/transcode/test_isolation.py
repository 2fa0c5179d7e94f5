"""The service says at its start which layers of the sandbox it has, and refuses where it is told to."""

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from services.transcode import isolation
from services.transcode.engine import run as engine
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import Stage
from services.transcode.engine_port import ByteSource
from services.transcode.source import RejectedSource, RejectionReason, SourceInfo
from tests.unit.pipeline.fakes import FakeEngine
from tests.unit.transcode.sources import LIMITS


class OldKernel(FakeEngine):
    """Children as a kernel without Landlock has them."""

    async def probe(
        self, source: ByteSource, limits: Limits, *, on_stage: Callable[[Stage], None] = lambda _: None
    ) -> SourceInfo:
        states: dict[str, str | int | float] = {
            "pid": 1,
            "sandbox.seccomp": "on",
            "sandbox.landlock": "missing: Function not implemented",
        }
        on_stage(Stage("child start", 0, 1, states))
        raise RejectedSource(RejectionReason.NOT_MEDIA, "nothing")


async def test_what_is_missing_is_said_and_the_rest_goes_on() -> None:
    with capture_logs() as logs:
        await isolation.check(OldKernel(), LIMITS, is_required=False)
    [said] = logs
    assert (said["event"], said["log_level"]) == ("sandbox_incomplete", "warning")
    assert said["landlock"].startswith("missing")


async def test_a_service_that_requires_the_sandbox_refuses_to_start_without() -> None:
    with pytest.raises(isolation.SandboxIncomplete, match="landlock"):
        await isolation.check(OldKernel(), LIMITS, is_required=True)


async def test_silence_is_no_sandbox() -> None:
    with pytest.raises(isolation.SandboxIncomplete, match="did not say"):
        await isolation.check(FakeEngine(), LIMITS, is_required=True)


async def test_real_children_say_what_they_have() -> None:
    with capture_logs() as logs:
        await isolation.check(engine, LIMITS, is_required=False)
    assert {"rlimits", "no_new_privs", "landlock", "seccomp"} <= set(logs[0])
