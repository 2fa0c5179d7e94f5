"""Questions that only a working server answers; each returns a bool and never waits longer than ~2 s."""

import socket
from collections.abc import Callable
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import grpc
import psycopg
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT_S = 2.0

# A proxy named in the environment must never see loopback probes.
_open = build_opener(ProxyHandler({})).open


def http_ok(url: str) -> Callable[[], bool]:
    """Ready when ``GET url`` answers 200."""

    def ready() -> bool:
        try:
            with _open(url, timeout=_TIMEOUT_S) as response:
                return bool(response.status == 200)
        except (URLError, OSError):
            return False

    return ready


def listening(host: str, port: int) -> bool:
    """Whether something accepts connections at ``host:port``."""
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT_S):
            return True
    except OSError:
        return False


def select_one(database_url: str) -> Callable[[], bool]:
    """Ready when the database answers ``SELECT 1`` to this very user."""

    def ready() -> bool:
        try:
            with psycopg.connect(database_url, connect_timeout=2) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    return ready


def grpc_serving(target: str) -> Callable[[], bool]:
    """Ready when the standard health service at ``host:port`` says SERVING for the whole server."""

    def ready() -> bool:
        # A channel of its own each time: a used one would sit out its reconnect backoff.
        with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
            try:
                reply = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
                    health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S
                )
            except grpc.RpcError:
                return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    return ready
