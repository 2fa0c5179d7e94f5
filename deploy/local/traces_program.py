"""The trace store as a part of the stack (the store itself is the package ``deploy.local.traces``)."""

import sys
from collections.abc import Mapping

from deploy.local.home import CHECKOUT, Home
from deploy.local.ledger import HOST
from deploy.local.probes import http_ok
from deploy.local.program import Program
from deploy.local.services import PYTHON_ENVIRONMENT


def settings(home: Home) -> dict[str, str]:
    """Where spans go and where they are looked at."""
    return {
        "MILLRACE_OTLP_ENDPOINT": f"http://{HOST}:{home.ledger.port('traces.otlp')}",
        "MILLRACE_TRACES_URL": f"http://{HOST}:{home.ledger.port('traces.http')}/traces",
    }


def program(home: Home, settings: Mapping[str, str]) -> Program:
    """Describe the process."""
    otlp = f"{HOST}:{home.ledger.port('traces.otlp')}"
    http = f"{HOST}:{home.ledger.port('traces.http')}"
    return Program(
        name="traces",
        command=(sys.executable, "-m", "deploy.local.traces", "--otlp", otlp, "--http", http),
        address=f"{settings['MILLRACE_TRACES_URL']} (OTLP/gRPC: {otlp})",
        ready=http_ok(f"http://{http}/healthz"),
        environment=PYTHON_ENVIRONMENT,
        directory=CHECKOUT,
    )
