"""Asks the first child which layers of its sandbox this kernel has, before anything of a user's is decoded.

What is missing is said once at the start, and again in the trace of every child. Whether the service then goes on with
the other layers is a setting.
"""

from contextlib import suppress
from typing import Final

import structlog

from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import Stage
from services.transcode.engine_port import Engine
from services.transcode.source import RejectedSource

_STATE: Final = "sandbox."
_ON: Final = "on"

_log = structlog.get_logger(__name__)


class SandboxIncomplete(RuntimeError):
    """This kernel lacks layers of the sandbox, and a setting says not to go on without them."""


class _NoMedia:
    """A source that no library is asked about."""

    size_bytes = 1

    async def read(self, offset: int, length: int) -> bytes:
        return b"\0"[offset : offset + length]


async def check(engine: Engine, limits: Limits, *, is_required: bool) -> None:
    """Says what is missing.

    Raises:
        SandboxIncomplete: something is, and `is_required`.
    """
    states = await _states(engine, limits)
    missing = {layer: state for layer, state in states.items() if not state.startswith(_ON)}
    if not states:
        missing = {"all": "the child did not say"}
    if not missing:
        _log.info("sandbox_complete", **states)
        return
    _log.warning("sandbox_incomplete", is_required=is_required, **states)
    if is_required:
        raise SandboxIncomplete(f"this kernel lacks layers of the engine's sandbox: {missing}")


async def _states(engine: Engine, limits: Limits) -> dict[str, str]:
    stages: list[Stage] = []
    with suppress(RejectedSource):
        await engine.probe(_NoMedia(), limits, on_stage=stages.append)
    return {
        name.removeprefix(_STATE): str(state)
        for stage in stages
        for name, state in stage.attributes.items()
        if name.startswith(_STATE)
    }
