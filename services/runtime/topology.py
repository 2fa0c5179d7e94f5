"""The streams and consumers of the broker, as data, and the step that makes a broker match them.

Two streams: EVENTS says what happened and is kept for replay; TASKS is a work queue whose lanes never overlap. Both
live in files and both refuse new messages rather than drop old ones: with `discard=old` a full queue would lose undone
work.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import nats
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

EVENTS: Final = "EVENTS"
TASKS: Final = "TASKS"
LANES: Final = ("image", "video", "audio")
"""One lane a fleet: images are quick and many, video tasks fill a core, sound is cheap and must not wait."""

_DUPLICATE_WINDOW = timedelta(minutes=2)
_EVENTS_MAX_AGE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Consumer:
    """A durable pull consumer.

    Attributes:
        stream: name of its stream.
        name: durable name, shared by all processes that work on it.
        subject: the one subject it takes.
        ack_wait: how long a message may go without `ack` or `in_progress` before it is delivered again.
        max_ack_pending: messages over all workers that are in hand, or were given back and wait to come again: the
            fleet's slots, and room for those that wait. When it is reached, nobody gets a message that is new.
    """

    stream: str
    name: str
    subject: str
    ack_wait: timedelta
    max_ack_pending: int


_HELD_ACK_WAIT = timedelta(seconds=10)
"""For work of seconds whose message is held meanwhile (`bus.held`): how long a killed process delays its media."""

PLANNER: Final = Consumer(EVENTS, "transcode-planner", "media.uploaded", _HELD_ACK_WAIT, 4_096)
"""Pulls and slots bound what is in hand. The rest waits for a slot to be verified in, perhaps for hours, and must not
hold up media that need none. To the broker each of them is an entry in a table, and a delivery every half minute: some
140 a second when it is full. `apply` gives a consumer that is there the new number, `restore` leaves it as it is."""
PUBLISHER: Final = Consumer(EVENTS, "manifest-publisher", "media.encoded", _HELD_ACK_WAIT, 64)
WORKERS: Final = {
    lane: Consumer(TASKS, f"transcode-{lane}", f"tasks.{lane}", timedelta(seconds=30), 1_024) for lane in LANES
}
CONSUMERS: Final = (PLANNER, PUBLISHER, *WORKERS.values())


def _streams(replicas: int) -> tuple[api.StreamConfig, ...]:
    return (
        api.StreamConfig(
            name=EVENTS,
            subjects=["media.*"],
            retention=api.RetentionPolicy.LIMITS,
            storage=api.StorageType.FILE,
            discard=api.DiscardPolicy.NEW,
            max_age=_EVENTS_MAX_AGE.total_seconds(),
            duplicate_window=_DUPLICATE_WINDOW.total_seconds(),
            num_replicas=replicas,
        ),
        api.StreamConfig(
            name=TASKS,
            subjects=["tasks.*"],
            retention=api.RetentionPolicy.WORK_QUEUE,
            storage=api.StorageType.FILE,
            discard=api.DiscardPolicy.NEW,
            duplicate_window=_DUPLICATE_WINDOW.total_seconds(),
            num_replicas=replicas,
        ),
    )


async def ensure_streams(nats_url: str, *, replicas: int) -> None:
    """Makes the broker at an address match this module.

    Args:
        nats_url: one or more server URLs, separated by commas.
        replicas: copies of each stream; 3 on a cluster.

    Raises:
        nats.errors.Error: the broker refuses, or cannot be reached.
    """
    connection = await nats.connect(nats_url.split(","), connect_timeout=5)
    try:
        await apply(connection.jetstream(), replicas=replicas)
    finally:
        await connection.close()


async def apply(jetstream: JetStreamContext, *, replicas: int) -> None:
    """Creates or updates every stream and consumer; safe to repeat and to run while others work."""
    for stream in _streams(replicas):
        await _ensure_stream(jetstream, stream)
    for consumer in CONSUMERS:
        await jetstream.add_consumer(consumer.stream, consumer_config(consumer))


async def restore(jetstream: JetStreamContext, *, replicas: int) -> None:
    """Adds what is missing of the streams and consumers, and leaves what is there as operators have set it.

    Raises:
        nats.errors.Error: the broker refuses, or does not answer; nothing is taken for missing then.
    """
    for stream in _streams(replicas):
        try:
            await jetstream.stream_info(str(stream.name))
        except NotFoundError:
            await jetstream.add_stream(stream)
    for consumer in CONSUMERS:
        try:
            await jetstream.consumer_info(consumer.stream, consumer.name)
        except NotFoundError:
            await jetstream.add_consumer(consumer.stream, consumer_config(consumer))


async def _ensure_stream(jetstream: JetStreamContext, config: api.StreamConfig) -> None:
    try:
        await jetstream.update_stream(config)
    except NotFoundError:
        await jetstream.add_stream(config)


def consumer_config(consumer: Consumer) -> api.ConsumerConfig:
    """The broker's form of a consumer.

    `max_deliver` stays unlimited: a limit would strand messages in a work queue. Attempts are counted in PostgreSQL.
    """
    return api.ConsumerConfig(
        durable_name=consumer.name,
        filter_subject=consumer.subject,
        ack_policy=api.AckPolicy.EXPLICIT,
        deliver_policy=api.DeliverPolicy.ALL,
        ack_wait=consumer.ack_wait.total_seconds(),
        max_ack_pending=consumer.max_ack_pending,
    )
