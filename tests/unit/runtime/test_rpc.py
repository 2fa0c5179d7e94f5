"""A real server and a real client on loopback: how errors, deadlines and health travel."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from media.v1 import manifest_service_pb2 as pb
from media.v1 import manifest_service_pb2_grpc as pb_grpc
from services.runtime import errors, grpc_client, grpc_server, interceptors

NAME = "media.v1.ManifestService"


class Servicer(pb_grpc.ManifestServiceServicer):
    """Does what the test says."""

    def __init__(self, behaviour: Callable[[], Awaitable[None]]) -> None:
        self._behaviour = behaviour

    async def VerifyMedia(self, request: pb.VerifyMediaRequest, context: object) -> pb.VerifyMediaResponse:
        await self._behaviour()
        return pb.VerifyMediaResponse(checked_count=request.generation)

    async def WarmMedia(self, request: pb.WarmMediaRequest, context: object) -> pb.WarmMediaResponse:
        raise NotImplementedError


@asynccontextmanager
async def answering(behaviour: Callable[[], Awaitable[None]]) -> AsyncIterator[grpc.aio.Channel]:
    def add_to(server: grpc.aio.Server) -> None:
        pb_grpc.add_ManifestServiceServicer_to_server(Servicer(behaviour), server)

    async with (
        grpc_server.serving("127.0.0.1:0", [(NAME, add_to)]) as address,
        grpc_client.channel(address) as channel,
    ):
        yield channel


async def ask(channel: grpc.aio.Channel, *, timeout_s: float = 5.0) -> pb.VerifyMediaResponse:
    stub = pb_grpc.ManifestServiceStub(channel)
    return await grpc_client.call(stub.VerifyMedia, pb.VerifyMediaRequest(generation=7), timeout_s=timeout_s)


async def fine() -> None:
    return


async def test_an_answer_comes_back() -> None:
    async with answering(fine) as channel:
        assert (await ask(channel)).checked_count == 7


def test_every_error_of_the_taxonomy_has_a_status() -> None:
    assert set(interceptors.STATUS_CODES) == set(errors.MillraceError.__subclasses__())
    assert len(set(interceptors.STATUS_CODES.values())) == len(interceptors.STATUS_CODES)


@pytest.mark.parametrize("kind", list(interceptors.STATUS_CODES))
async def test_an_error_arrives_as_what_it_was(kind: type[errors.MillraceError]) -> None:
    async def fail() -> None:
        raise kind("what went wrong", reason="WHY", details={"field": "x"})

    async with answering(fail) as channel:
        with pytest.raises(kind) as caught:
            await ask(channel)
    assert (caught.value.message, caught.value.reason, caught.value.details) == (
        "what went wrong",
        "WHY",
        {"field": "x"},
    )


async def test_a_defect_tells_the_caller_nothing() -> None:
    async def fail() -> None:
        raise ZeroDivisionError("secret details")

    async with answering(fail) as channel:
        with pytest.raises(errors.Internal) as caught:
            await ask(channel)
    assert "secret" not in str(caught.value)
    assert "ZeroDivision" not in str(caught.value)


async def test_the_server_stops_at_the_callers_deadline() -> None:
    cancelled = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async with answering(hang) as channel:
        with pytest.raises(errors.DeadlineExceeded):
            await ask(channel, timeout_s=0.3)
        await asyncio.wait_for(cancelled.wait(), 2)


async def test_a_call_on_behalf_of_another_ends_with_it() -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    async with answering(hang) as channel:
        token = interceptors.deadline.set(time.monotonic() + 0.2)
        started = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            await ask(channel, timeout_s=30)
        interceptors.deadline.reset(token)
        assert time.monotonic() - started < 2


async def test_unavailable_is_tried_again() -> None:
    calls = 0

    async def fail_twice() -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise errors.Unavailable("not yet")

    async with answering(fail_twice) as channel:
        await ask(channel)
    assert calls == 3


async def test_nobody_there_is_unavailable() -> None:
    async with grpc_client.channel("127.0.0.1:1") as channel:
        with pytest.raises((errors.Unavailable, errors.DeadlineExceeded)):
            await ask(channel, timeout_s=1)


class FreezableProxy:
    """Stands between a channel and a server; what it freezes stays open and says nothing more."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.rpartition(":")
        self._writers: list[asyncio.StreamWriter] = []
        self._forwarding: set[asyncio.Task[None]] = set()

    def freeze(self) -> None:
        """Freezes the connections there are; later ones work."""
        for task in self._forwarding:
            task.cancel()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes a connection and opens its other half."""
        back_reader, back_writer = await asyncio.open_connection(self._host, int(self._port))
        self._writers += [writer, back_writer]
        for source, sink in ((reader, back_writer), (back_reader, writer)):
            self._forwarding.add(asyncio.create_task(self._forward(source, sink)))

    def close(self) -> None:
        """Ends everything."""
        self.freeze()
        for writer in self._writers:
            writer.close()

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            sink.write(data)


async def test_a_peer_that_vanished_without_a_word_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_client, "KEEPALIVE_TIME_MS", 500)
    monkeypatch.setattr(grpc_client, "KEEPALIVE_TIMEOUT_MS", 500)

    def add_to(server: grpc.aio.Server) -> None:
        pb_grpc.add_ManifestServiceServicer_to_server(Servicer(fine), server)

    async with grpc_server.serving("127.0.0.1:0", [(NAME, add_to)]) as address:
        proxy = FreezableProxy(address)
        server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
        async with grpc_client.channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as channel:
            assert (await ask(channel)).checked_count == 7
            proxy.freeze()
            assert (await ask(channel, timeout_s=10)).checked_count == 7
        proxy.close()
        server.close()


async def test_health_and_reflection_answer() -> None:
    async with answering(fine) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        for name in ("", NAME):
            answer = await check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        ask_server = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        async for described in ask_server(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5):
            assert NAME in {service.name for service in described.list_services_response.service}


async def test_a_taken_address_is_an_error_one_can_read() -> None:
    async with grpc_server.serving("127.0.0.1:0", []) as address:
        with pytest.raises(errors.Unavailable, match="cannot listen"):
            async with grpc_server.serving(address, []):
                pass
