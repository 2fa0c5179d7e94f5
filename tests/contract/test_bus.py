"""What the bus promises, on a real NATS server with JetStream."""

import asyncio
import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import nats
import pytest

from deploy.local.home import executable
from services.runtime import bus, topology
from services.runtime.bus import Bus, Delivery, Discard, RetryLater
from services.runtime.errors import Unavailable
from services.runtime.topology import Consumer
from tests.env import Env

SOON = 10.0


async def _new_consumer(infra: Env, ack_wait: timedelta) -> Consumer:
    """A consumer of its own on a subject of its own."""
    name = f"test-{secrets.token_hex(6)}"
    made = Consumer(topology.EVENTS, name, f"media.{name}", ack_wait, 16)
    connection = await nats.connect(infra["MILLRACE_NATS_URL"])
    await connection.jetstream().add_consumer(made.stream, topology.consumer_config(made))
    await connection.close()
    return made


@pytest.fixture
async def consumer(infra: Env) -> Consumer:
    """One that gets a message again soon."""
    return await _new_consumer(infra, timedelta(seconds=1))


@pytest.fixture
async def patient_consumer(infra: Env) -> Consumer:
    """One that gets a message again only when somebody gives it back."""
    return await _new_consumer(infra, timedelta(minutes=5))


class Consuming:
    """Consumes until its block ends."""

    def __init__(
        self, bus: Bus, consumer: Consumer, handle: Callable[[Delivery], object], concurrency: int = 4
    ) -> None:
        async def handler(delivery: Delivery) -> None:
            answer = handle(delivery)
            if asyncio.iscoroutine(answer):
                await answer

        self._stop = asyncio.Event()
        self._run = bus.consume(
            consumer, handler, concurrency=concurrency, stop=self._stop, drain=timedelta(seconds=0.2)
        )

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._run)

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._task


async def _pending(infra: Env, consumer: Consumer) -> int:
    connection = await nats.connect(infra["MILLRACE_NATS_URL"])
    info = await connection.jetstream().consumer_info(consumer.stream, consumer.name)
    await connection.close()
    return (info.num_pending or 0) + (info.num_ack_pending or 0)


async def test_a_message_arrives_once_and_is_acknowledged(broker: Bus, consumer: Consumer, infra: Env) -> None:
    seen: asyncio.Queue[bytes] = asyncio.Queue()
    async with Consuming(broker, consumer, lambda delivery: seen.put_nowait(delivery.data)):
        await broker.publish(consumer.subject, b"one", message_id=secrets.token_hex(8))
        assert await asyncio.wait_for(seen.get(), SOON) == b"one"
    assert seen.empty()
    assert await _pending(infra, consumer) == 0


async def test_a_repeated_id_is_stored_once(broker: Bus, consumer: Consumer, infra: Env) -> None:
    for _ in range(3):
        await broker.publish(consumer.subject, b"same", message_id=consumer.name)
    assert await _pending(infra, consumer) == 1


async def test_a_failed_handler_sees_the_message_again(broker: Bus, consumer: Consumer) -> None:
    counts: asyncio.Queue[int] = asyncio.Queue()

    def handle(delivery: Delivery) -> None:
        counts.put_nowait(delivery.delivery_count)
        if delivery.delivery_count == 1:
            raise RuntimeError("the first time fails")

    async with Consuming(broker, consumer, handle):
        await broker.publish(consumer.subject, b"x", message_id=secrets.token_hex(8))
        assert [await asyncio.wait_for(counts.get(), SOON) for _ in range(2)] == [1, 2]


async def test_a_message_whose_handler_keeps_failing_is_let_go(
    broker: Bus, patient_consumer: Consumer, infra: Env
) -> None:
    counts: asyncio.Queue[int] = asyncio.Queue()

    def handle(delivery: Delivery) -> None:
        counts.put_nowait(delivery.delivery_count)
        if delivery.delivery_count < 5:
            raise RetryLater(timedelta(milliseconds=10))
        raise RuntimeError("fails for good")

    async with Consuming(broker, patient_consumer, handle):
        await broker.publish(patient_consumer.subject, b"x", message_id=secrets.token_hex(8))
        assert [await asyncio.wait_for(counts.get(), SOON) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert await _pending(infra, patient_consumer) == 0


async def test_retry_later_waits_as_long_as_it_says(broker: Bus, consumer: Consumer) -> None:
    times: asyncio.Queue[float] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def handle(delivery: Delivery) -> None:
        times.put_nowait(loop.time())
        if delivery.delivery_count == 1:
            raise RetryLater(timedelta(seconds=0.5))

    async with Consuming(broker, consumer, handle):
        await broker.publish(consumer.subject, b"x", message_id=secrets.token_hex(8))
        first, second = [await asyncio.wait_for(times.get(), SOON) for _ in range(2)]
    assert second - first >= 0.45


async def test_a_discarded_message_never_comes_again(broker: Bus, consumer: Consumer, infra: Env) -> None:
    seen: asyncio.Queue[int] = asyncio.Queue()

    def handle(delivery: Delivery) -> None:
        seen.put_nowait(delivery.delivery_count)
        raise Discard("does not parse")

    async with Consuming(broker, consumer, handle):
        await broker.publish(consumer.subject, b"junk", message_id=secrets.token_hex(8))
        assert await asyncio.wait_for(seen.get(), SOON) == 1
        await asyncio.sleep(1.5)  # past the ack wait
    assert seen.empty()
    assert await _pending(infra, consumer) == 0


async def test_keeping_a_message_holds_it_past_the_ack_wait(broker: Bus, consumer: Consumer) -> None:
    counts: list[int] = []
    done = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        counts.append(delivery.delivery_count)
        for _ in range(5):
            await asyncio.sleep(0.5)
            await delivery.keep()
        done.set()

    async with Consuming(broker, consumer, handle):
        await broker.publish(consumer.subject, b"slow", message_id=secrets.token_hex(8))
        await asyncio.wait_for(done.wait(), SOON)
    assert counts == [1]


async def test_a_stop_gives_unfinished_messages_back(broker: Bus, patient_consumer: Consumer) -> None:
    started = asyncio.Event()

    async def hang(_: Delivery) -> None:
        started.set()
        await asyncio.Event().wait()

    async with Consuming(broker, patient_consumer, hang):
        await broker.publish(patient_consumer.subject, b"held", message_id=secrets.token_hex(8))
        await asyncio.wait_for(started.wait(), SOON)
    again: asyncio.Queue[int] = asyncio.Queue()
    async with Consuming(broker, patient_consumer, lambda delivery: again.put_nowait(delivery.delivery_count)):
        assert await asyncio.wait_for(again.get(), SOON) >= 2


async def test_no_more_than_the_agreed_number_is_in_hand(broker: Bus, consumer: Consumer) -> None:
    in_hand, most = 0, 0
    left = asyncio.Semaphore(0)

    async def handle(_: Delivery) -> None:
        nonlocal in_hand, most
        in_hand += 1
        most = max(most, in_hand)
        await asyncio.sleep(0.05)
        in_hand -= 1
        left.release()

    async with Consuming(broker, consumer, handle, concurrency=2):
        for _ in range(8):
            await broker.publish(consumer.subject, b"x", message_id=secrets.token_hex(8))
        for _ in range(8):
            await asyncio.wait_for(left.acquire(), SOON)
    assert most == 2


async def test_announcements_reach_whoever_listens(broker: Bus) -> None:
    heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def listen() -> None:
        async for announced in broker.listen("progress.*"):
            heard.put_nowait(announced)

    task = asyncio.create_task(listen())
    await asyncio.sleep(0.2)
    await broker.announce("progress.abc", b"0.5")
    assert await asyncio.wait_for(heard.get(), SOON) == ("progress.abc", b"0.5")
    task.cancel()


async def test_lanes_never_overlap() -> None:
    subjects = [consumer.subject for consumer in topology.WORKERS.values()]
    assert len(set(subjects)) == len(subjects) == len(topology.LANES)


async def test_provisioning_twice_changes_nothing(infra: Env) -> None:
    await topology.ensure_streams(infra["MILLRACE_NATS_URL"], replicas=1)
    await topology.ensure_streams(infra["MILLRACE_NATS_URL"], replicas=1)


@pytest.fixture
def empty_broker(tmp_path: Path) -> Iterator[str]:
    """The URL of a broker of its own that has no streams, as after the loss of its store."""
    command = [executable("nats-server"), "--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir", str(tmp_path)]
    command += ["--jetstream", "--store_dir", str(tmp_path / "store")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            ends_at = time.monotonic() + SOON
            while not (said := "".join(path.read_text() for path in tmp_path.glob("*.ports"))):
                assert time.monotonic() < ends_at
                time.sleep(0.02)
            yield json.loads(said)["nats"][0]
        finally:
            server.terminate()


async def test_a_broker_that_lost_its_streams_gets_them_back(empty_broker: str) -> None:
    async with bus.connected(empty_broker, "tests") as own, asyncio.timeout(SOON):
        with pytest.raises(Unavailable):
            await own.publish("media.uploaded", b"refused", message_id="1")
        seen: asyncio.Queue[bytes] = asyncio.Queue()
        async with Consuming(own, topology.PLANNER, lambda delivery: seen.put_nowait(delivery.data)):
            while seen.empty():
                await asyncio.sleep(0.1)
                with suppress(Unavailable):
                    await own.publish("media.uploaded", b"stored", message_id="2")
        assert seen.get_nowait() == b"stored"


async def test_a_repair_leaves_what_is_there_as_operators_have_set_it(empty_broker: str) -> None:
    await topology.ensure_streams(empty_broker, replicas=1)
    connection = await nats.connect(empty_broker)
    jetstream = connection.jetstream()
    try:
        config = (await jetstream.stream_info(topology.EVENTS)).config
        config.max_bytes = 1_000_000
        await jetstream.update_stream(config)
        await jetstream.delete_consumer(topology.EVENTS, topology.PLANNER.name)
        # One server cannot hold three copies: it would refuse every change of what is there already.
        await topology.restore(jetstream, replicas=3)
        assert (await jetstream.stream_info(topology.EVENTS)).config.max_bytes == 1_000_000
        assert await jetstream.consumer_info(topology.EVENTS, topology.PLANNER.name)
    finally:
        await connection.close()


async def test_originals_that_wait_for_a_slot_hold_up_no_others(empty_broker: str) -> None:
    """Nor do they at a broker whose consumer was made for fewer, once it was provisioned anew."""
    await topology.ensure_streams(empty_broker, replicas=1)
    connection = await nats.connect(empty_broker)
    of_before = topology.consumer_config(replace(topology.PLANNER, max_ack_pending=64))
    await connection.jetstream().add_consumer(topology.EVENTS, of_before)
    await connection.close()
    await topology.ensure_streams(empty_broker, replicas=1)
    done = asyncio.Event()

    def handle(delivery: Delivery) -> None:
        if delivery.data == b"waits":
            raise RetryLater(timedelta(minutes=1))
        done.set()

    async with (
        bus.connected(empty_broker, "tests") as own,
        Consuming(own, topology.PLANNER, handle),
        asyncio.timeout(SOON),
    ):
        for number in range(200):
            await own.publish("media.uploaded", b"waits", message_id=f"waits-{number}")
        await own.publish("media.uploaded", b"needs no slot", message_id="other")
        await done.wait()


async def test_many_failures_at_once_are_one_repair(empty_broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    repairs: list[int] = []

    async def restore(_: object, *, replicas: int) -> None:
        repairs.append(replicas)

    monkeypatch.setattr(topology, "restore", restore)
    async with bus.connected(empty_broker, "tests", replicas=3) as own:
        for _ in range(3):
            await asyncio.gather(
                *(own.publish("media.uploaded", b"x", message_id=str(n)) for n in range(50)), return_exceptions=True
            )
        await asyncio.sleep(0.1)
    assert repairs == [3]


async def test_a_broker_that_is_not_there_at_first_ends_the_start(unused_tcp_port: int) -> None:
    async with asyncio.timeout(15):
        with pytest.raises(Unavailable, match="broker"):
            async with bus.connected(f"nats://127.0.0.1:{unused_tcp_port}", "tests"):
                pass
