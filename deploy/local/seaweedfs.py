"""Object storage: SeaweedFS, all its roles in one process, S3 on the front.

It checks signatures, expiry, checksums, CORS, bucket policies and conditional writes as S3 does. Storage
classes and lifecycle transitions are labels only. Its master, volume and filer ports have no passwords; they
are on the loopback address, which is one reason why this stack is not for production.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from deploy.local.home import Home, executable
from deploy.local.ledger import HOST, write_private
from deploy.local.probes import http_ok
from deploy.local.program import Program

_ROLES = ("master", "volume", "filer", "s3", "admin")


def settings(home: Home) -> dict[str, str]:
    """Where our own object storage is, and the one key that opens it."""
    return {
        "MILLRACE_S3_ENDPOINT_URL": f"http://{HOST}:{home.ledger.port('seaweedfs.s3')}",
        "MILLRACE_S3_ACCESS_KEY_ID": "millrace",
        "MILLRACE_S3_SECRET_ACCESS_KEY": home.ledger.secret("seaweedfs"),
    }


def program(home: Home, settings: Mapping[str, str]) -> Program:
    """Write the identities and describe the process."""
    data = home.folder("seaweedfs")
    identities = home.directory / "run" / "s3.json"
    app = {
        "name": "app",
        "credentials": [
            {
                "accessKey": settings["MILLRACE_S3_ACCESS_KEY_ID"],
                "secretKey": settings["MILLRACE_S3_SECRET_ACCESS_KEY"],
            }
        ],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    write_private(identities, json.dumps({"identities": [app]}))
    endpoint = settings["MILLRACE_S3_ENDPOINT_URL"]
    ports = [f"-{role}.port={home.ledger.port(f'seaweedfs.{role}')}" for role in _ROLES]
    return Program(
        name="seaweedfs",
        command=(
            executable("weed"),
            # Else it fills /tmp with log files of its own.
            "-logtostderr=true",
            "mini",
            f"-dir={data}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            *ports,
            f"-s3.config={identities}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-volume.preStopSeconds=0",
            "-webdav=false",
            "-admin.ui=false",
        ),
        address=endpoint,
        ready=http_ok(f"{endpoint}/healthz"),
        directory=data,
        # Idle keep-alive connections hold an orderly end up for 28 s; what was acknowledged is on disk.
        stop_wait_s=5,
    )


def remove_sockets(home: Home) -> None:
    """Remove the sockets that a killed SeaweedFS leaves in /tmp; it offers no option for their place."""
    for role in _ROLES:
        port = home.ledger.port(f"seaweedfs.{role}")
        for path in Path("/tmp").glob(f"seaweedfs-{role}-*{port % 10_000}.sock"):  # noqa: S108 - its place
            if path.stem.rpartition("-")[2] in (str(port), str(port + 10_000)):
                path.unlink(missing_ok=True)
