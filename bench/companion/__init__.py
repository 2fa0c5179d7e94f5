"""Uppy Companion, as it comes from npm, as one process beside the stack."""

import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import node
from bench.storage import Storage
from bench.wire import Server
from deploy.local.ledger import HOST, is_free
from deploy.local.probes import http_ok

FOLDER = Path(__file__).parent
_PORT = 17_020
_READY_WITHIN_S = 20.0


def install() -> None:
    """Installs Companion; see `node.install`."""
    node.install(FOLDER)


@contextmanager
def running(storage: Storage, log: Path) -> Iterator[tuple[Server, int]]:
    """Companion on the same storage; yields where it listens, and its process id.

    Raises:
        TimeoutError: it does not answer; its log says why.
    """
    port = next(port for port in range(_PORT, _PORT + 1_000) if is_free(port))
    with tempfile.TemporaryDirectory() as folder, log.open("wb") as output:
        process = subprocess.Popen(
            [node.program("node"), str(FOLDER / "server.mjs")],
            cwd=FOLDER,
            env={
                "PATH": os.environ["PATH"],
                "NODE_ENV": "production",
                "COMPANION_PORT": str(port),
                "COMPANION_SECRET": secrets.token_urlsafe(24),
                "COMPANION_FOLDER": folder,
                "S3_ENDPOINT_URL": storage.endpoint_url,
                "S3_REGION": storage.region,
                "S3_BUCKET": storage.bucket,
                "S3_ACCESS_KEY_ID": storage.access_key_id,
                "S3_SECRET_ACCESS_KEY": storage.secret_access_key,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(process, f"http://{HOST}:{port}/healthz", log)
            yield Server(HOST, port), process.pid
        finally:
            process.terminate()
            process.wait(timeout=10)


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    ready = http_ok(url)
    deadline_s = time.monotonic() + _READY_WITHIN_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise TimeoutError(f"Companion does not answer:\n{log.read_text()[-2_000:]}")
        time.sleep(0.1)
