"""The broker: NATS with JetStream, one server.

``sync_interval: always`` makes an acknowledgement mean "on disk": with the default, 2,000 of 2,000 acknowledged
messages were gone after a power cut.
"""

import json
from collections.abc import Mapping

from deploy.local.home import Home, executable
from deploy.local.ledger import HOST, write_private
from deploy.local.probes import http_ok
from deploy.local.program import Program

USER = "millrace"


def settings(home: Home) -> dict[str, str]:
    """Where our own broker is; user and password are part of the URL."""
    return {"MILLRACE_NATS_URL": f"nats://{USER}:{home.ledger.secret('nats')}@{HOST}:{home.ledger.port('nats')}"}


def program(home: Home, settings: Mapping[str, str]) -> Program:
    """Write the configuration and describe the process."""
    store = home.folder("nats")
    port = home.ledger.port("nats")
    monitor = home.ledger.port("nats.monitor")
    configuration = home.directory / "run" / "nats.conf"
    # JSON is a subset of what the server reads.
    write_private(
        configuration,
        json.dumps(
            {
                "server_name": "millrace-local",
                "listen": f"{HOST}:{port}",
                "http": f"{HOST}:{monitor}",
                "authorization": {"user": USER, "password": home.ledger.secret("nats")},
                "jetstream": {
                    "store_dir": str(store),
                    "sync_interval": "always",
                    "max_memory_store": 64 * 2**20,
                    "max_file_store": 4 * 2**30,
                },
                "max_payload": 2**20,
            },
            indent=2,
        ),
    )
    return Program(
        name="nats",
        command=(executable("nats-server"), "--config", str(configuration)),
        address=f"nats://{HOST}:{port} (monitoring: http://{HOST}:{monitor})",
        ready=http_ok(f"http://{HOST}:{monitor}/healthz?js-enabled-only=true"),
        directory=store,
    )
