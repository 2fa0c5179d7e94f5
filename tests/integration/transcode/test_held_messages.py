"""Work that takes longer than a consumer's `ack_wait`, on the real broker."""

import asyncio
import secrets
from datetime import timedelta

import nats

from services.runtime import topology
from services.runtime.bus import Bus, Delivery, held
from services.runtime.topology import Consumer
from tests.env import Env


async def test_a_held_message_is_delivered_once(broker: Bus, infra: Env) -> None:
    name = f"test-{secrets.token_hex(6)}"
    consumer = Consumer(topology.EVENTS, name, f"media.{name}", timedelta(seconds=1), 4)
    connection = await nats.connect(infra["MILLRACE_NATS_URL"])
    await connection.jetstream().add_consumer(consumer.stream, topology.consumer_config(consumer))
    await connection.close()
    stop, counts = asyncio.Event(), []

    async def slow(delivery: Delivery) -> None:
        counts.append(delivery.delivery_count)
        async with held(delivery, consumer):
            await asyncio.sleep(3)
        stop.set()

    await broker.publish(consumer.subject, b"", message_id=name)
    await asyncio.wait_for(broker.consume(consumer, slow, concurrency=2, stop=stop), 15)
    assert counts == [1]
