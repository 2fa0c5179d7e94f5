"""The project's own processes: one for each service, and the gateway."""

import sys
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from deploy.local.home import CHECKOUT, Home
from deploy.local.ledger import HOST
from deploy.local.probes import grpc_serving, http_ok
from deploy.local.program import Program

GATEWAY: Final = "gateway"
GRPC_SERVICES: Final = ("metadata", "upload", "transcode", "manifest")
PYTHON_ENVIRONMENT: Final = {"PYTHONUNBUFFERED": "1"}
"""What our own Python processes need beside their settings."""

ALL: Final = (*GRPC_SERVICES, GATEWAY)


def settings(home: Home) -> dict[str, str]:
    """Where every service listens and is dialled, whether it is started here or not."""
    # On a developer's machine, ending soon is worth more than the encodes in hand; they are taken up again.
    values = {"MILLRACE_TRANSCODE_GRACE_S": "5"}
    for name in GRPC_SERVICES:
        address = f"{HOST}:{home.ledger.port(name)}"
        values[f"MILLRACE_{name.upper()}_LISTEN"] = address
        values[f"MILLRACE_{name.upper()}_TARGET"] = address
    port = home.ledger.port(GATEWAY)
    values["MILLRACE_GATEWAY_LISTEN"] = f"{HOST}:{port}"
    values["MILLRACE_GATEWAY_URL"] = f"http://{HOST}:{port}"
    values["MILLRACE_UPLOAD_TOKEN_KEY"] = home.ledger.secret("upload-tokens")
    return values


def upload_origins(settings: Mapping[str, str]) -> str:
    """Where presigned URLs lead, so that the gateway's pages may send files there; follows from where storage is."""
    endpoint = settings.get("MILLRACE_S3_PUBLIC_ENDPOINT_URL") or settings.get("MILLRACE_S3_ENDPOINT_URL")
    if not endpoint:
        return f"https://{settings['MILLRACE_S3_ORIGINALS_BUCKET']}.s3.{settings['MILLRACE_S3_REGION']}.amazonaws.com"
    scheme, address, *_ = urlsplit(endpoint)
    return f"{scheme}://{address}"


def program(name: str, settings: Mapping[str, str]) -> Program:
    """Describe the process of one service."""
    if name == GATEWAY:
        url = settings["MILLRACE_GATEWAY_URL"]
        module, address, ready = [GATEWAY], url, http_ok(f"{url}/readyz")
    else:
        target = settings[f"MILLRACE_{name.upper()}_TARGET"]
        module, address, ready = ["services", name], target, grpc_serving(target)
    return Program(
        name=name,
        command=(sys.executable, "-m", *module),
        address=address,
        ready=ready,
        environment={**settings, **PYTHON_ENVIRONMENT},
        directory=CHECKOUT,
        stop_wait_s=10,
    )
