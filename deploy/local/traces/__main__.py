"""``python -m deploy.local.traces``: receive spans over OTLP/gRPC and show them on pages."""

import argparse
import asyncio
import sys

import uvicorn

from deploy.local.traces.receiver import receiver
from deploy.local.traces.store import TraceStore
from deploy.local.traces.web import make_app

DEFAULT_MAX_SPANS = 100_000


async def serve(otlp: str, http: str, max_spans: int) -> None:
    """Run both ends, each on its ``host:port``, until SIGTERM or SIGINT."""
    store = TraceStore(max_spans)
    server, _ = receiver(store, otlp)
    await server.start()
    host, _, port = http.rpartition(":")
    # uvicorn takes the signals and returns once its last response is out.
    await uvicorn.Server(
        uvicorn.Config(
            make_app(store),
            host=host,
            port=int(port),
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=2,
        )
    ).serve()
    await server.stop(grace=1.0)


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.traces", description=__doc__)
    parser.add_argument("--otlp", required=True, metavar="HOST:PORT", help="where spans arrive")
    parser.add_argument("--http", required=True, metavar="HOST:PORT", help="where the pages are")
    parser.add_argument("--max-spans", type=int, default=DEFAULT_MAX_SPANS, help="default: %(default)s")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.otlp, arguments.http, arguments.max_spans))
    return 0


if __name__ == "__main__":
    sys.exit(main())
