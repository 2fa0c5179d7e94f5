"""A process that runs one or several services until it is told to stop."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping

import structlog
import uvloop

from services.runtime import telemetry
from services.runtime.settings import TelemetrySettings

Serve = Callable[[asyncio.Event], Awaitable[None]]
"""A service's `app.serve`: runs until the event is set, then drains and returns."""

_log = structlog.get_logger(__name__)


def run(services: Mapping[str, Serve]) -> None:
    """Runs services side by side until SIGTERM or SIGINT, or until one of them fails.

    Args:
        services: `app.serve` by service name.

    Raises:
        ExceptionGroup: what made a service fail; the others were stopped.
    """
    with (
        telemetry.configured("+".join(services), TelemetrySettings()),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_run(services))


async def _run(services: Mapping[str, Serve]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with asyncio.TaskGroup() as group:
            for name, serve in services.items():
                group.create_task(_until_stopped(name, serve, stop), name=name)
    finally:
        _log.info("process_stopped", services=list(services))


async def _until_stopped(name: str, serve: Serve, stop: asyncio.Event) -> None:
    _log.info("service_starting", service=name)
    await serve(stop)
    if not stop.is_set():
        raise RuntimeError(f"service {name} ended although nobody stopped it")
