"""JetStream, as the suite uses it: publish with an id, consume with bounded concurrency, announce without promises.

Delivery is at least once and in any order; handlers are idempotent. A message is acknowledged only after its handler
returned, and with `ack_sync`, so that an acknowledged message is one the broker knows to be done. What a failed handler
leaves behind comes again after a delay, a few times: a message that waits counts against its consumer's
`max_ack_pending`, so a few that never succeed would hold up all others. Then it is let go. No work is lost by that: the
tables are the truth, and the reconciler of metadata emits again, ever more seldom, what they still want done (attempts
are counted there too, see `topology.consumer_config`).
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import nats
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from services.runtime import semconv, telemetry, topology
from services.runtime.errors import Unavailable
from services.runtime.topology import Consumer

MESSAGE_ID_HEADER: Final = "Nats-Msg-Id"

_CONNECT_TIMEOUT_S: Final = 10.0
"""For the first connection, all servers together; then a supervisor may start the process again, or end it."""
_PING_INTERVAL_S: Final = 10
"""Two unanswered pings are a lost connection: a cut link is noticed within half a minute."""
_REPAIR_PAUSE_S: Final = 5.0
_PUBLISH_TIMEOUT_S: Final = 5.0
_FETCH_TIMEOUT_S: Final = 2.0
"""Also the longest time until a stop is noticed."""
_ACK_TIMEOUT_S: Final = 5.0
_FIRST_RETRY_S: Final = 1.0
_LAST_RETRY_S: Final = 60.0
_MAX_FAILING_DELIVERIES: Final = 5
"""Some ten to fifteen seconds of retries, longer than most restarts; the reconciler takes over from there."""
_LISTEN_BUFFER: Final = 1_024
"""Messages a slow listener may lag behind before it loses some: listening is lossy by design."""

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer("millrace.bus")


class RetryLater(Exception):
    """The message cannot be handled now: deliver it again after `delay`. Not a fault."""

    def __init__(self, delay: timedelta) -> None:
        super().__init__(f"again in {delay.total_seconds():.1f} s")
        self.delay = delay


class Discard(Exception):
    """The message can never be handled, for instance because it does not parse: drop it and say so in the log."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery of one message.

    Attributes:
        subject: where it was published.
        data: its body.
        headers: its headers; W3C trace context among them.
        delivery_count: how often it was delivered, from 1.
        keep: extends the time until the broker delivers it again; call it only while the work advances.
    """

    subject: str
    data: bytes
    headers: Mapping[str, str]
    delivery_count: int
    keep: Callable[[], Awaitable[None]]


Handler = Callable[[Delivery], Awaitable[None]]


@asynccontextmanager
async def held(delivery: Delivery, consumer: Consumer) -> AsyncIterator[None]:
    """Keeps a delivery in hand while the block lasts, so that a consumer's `ack_wait` may be short and a dead process
    is missed soon. Only for work that is bounded in time by itself: nobody looks whether it advances.
    """

    async def keep() -> None:
        while True:
            await asyncio.sleep(consumer.ack_wait.total_seconds() / 3)
            await delivery.keep()

    keeping = asyncio.create_task(keep())
    try:
        yield
    finally:
        keeping.cancel()


@asynccontextmanager
async def connected(nats_url: str, name: str, *, replicas: int = 1) -> AsyncIterator["Bus"]:
    """A connection that lasts as long as the block and reconnects for ever.

    Args:
        nats_url: one or more server URLs, separated by commas.
        name: shown in the broker's monitoring.
        replicas: copies of a stream that had to be made anew, see `topology.restore`.

    Raises:
        Unavailable: the broker refuses the credentials, or there is none within ten seconds at first.
    """

    async def report(error: Exception) -> None:
        _log.warning("broker_error", error=repr(error))

    client = Client()
    try:
        # nats-py goes round its servers for ever on the first connection too when it may reconnect for ever.
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            await client.connect(
                nats_url.split(","),
                name=name,
                error_cb=report,
                connect_timeout=5,
                reconnect_time_wait=1,
                max_reconnect_attempts=-1,
                ping_interval=_PING_INTERVAL_S,
            )
    except (nats.errors.Error, OSError, TimeoutError) as error:
        last_error = client.last_error or error
        await client.close()
        raise Unavailable(f"broker: {last_error!r}") from error
    bus = Bus(client, replicas=replicas)
    repairing = asyncio.create_task(bus.repair_topology())
    try:
        yield bus
    finally:
        repairing.cancel()
        await client.close()


class Bus:
    """A connected broker; see `connected`."""

    def __init__(self, client: Client, *, replicas: int) -> None:
        self._client = client
        self._jetstream = client.jetstream(timeout=_PUBLISH_TIMEOUT_S)
        self._replicas = replicas
        self._topology_doubted = asyncio.Event()

    async def publish(
        self, subject: str, data: bytes, *, message_id: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Stores a message in the stream that its subject belongs to; returns once the broker has it on disk.

        Args:
            subject: for instance `media.uploaded`.
            data: the serialised message.
            message_id: the broker drops a repeat of it within two minutes.
            headers: W3C trace context of what caused the message.

        Raises:
            Unavailable: the broker did not confirm; the message may or may not be stored.
        """
        with _tracer.start_as_current_span(
            f"send {subject}",
            context=telemetry.context_from(headers),
            kind=SpanKind.PRODUCER,
            attributes={
                semconv.MESSAGING_SYSTEM: semconv.NATS,
                semconv.MESSAGING_DESTINATION_NAME: subject,
                semconv.MESSAGING_OPERATION_NAME: "send",
                semconv.MESSAGING_OPERATION_TYPE: "send",
                semconv.MESSAGING_MESSAGE_ID: message_id,
                semconv.MESSAGING_MESSAGE_BODY_SIZE: len(data),
            },
        ):
            sent = {**telemetry.trace_headers(), MESSAGE_ID_HEADER: message_id}
            try:
                await self._jetstream.publish(subject, data, headers=sent)
            except nats.js.errors.NoStreamResponseError as error:
                self._topology_doubted.set()
                raise Unavailable(f"broker had no stream for {subject}") from error
            except (nats.errors.Error, OSError) as error:
                raise Unavailable(f"broker: {error!r}") from error

    @property
    def is_connected(self) -> bool:
        """Whether the broker can be reached right now, as far as is known."""
        return self._client.is_connected

    async def announce(self, subject: str, data: bytes) -> None:
        """Tells whoever listens right now; nothing is stored and nobody is told of a loss."""
        try:
            await self._client.publish(subject, data)
        except (nats.errors.Error, OSError) as error:
            _log.debug("announcement_lost", subject=subject, error=repr(error))

    async def listen(self, subject: str) -> AsyncGenerator[tuple[str, bytes], None]:
        """Everything published to a subject (wildcards allowed) from now on, as (subject, data), until closed."""
        subscription = await self._client.subscribe(subject, pending_msgs_limit=_LISTEN_BUFFER)
        try:
            async for message in subscription.messages:
                yield message.subject, message.data
        finally:
            await _unsubscribe(subscription)

    async def consume(
        self,
        consumer: Consumer,
        handle: Handler,
        *,
        concurrency: int,
        stop: asyncio.Event,
        drain: timedelta = timedelta(seconds=10),
    ) -> None:
        """Handles messages until `stop` is set; then lets handlers finish, and gives back what they do not.

        Args:
            consumer: what to pull.
            handle: called for each delivery; its return acknowledges, `RetryLater` and `Discard` do what they say, any
                other exception is logged and the message comes again after a delay that grows with its deliveries,
                until the fifth of them: then it is let go.
            concurrency: messages in hand at once.
            stop: ends pulling.
            drain: how long handlers may go on after `stop`; then they are cancelled and their messages given back.
        """
        subscription = await self._jetstream.pull_subscribe_bind(consumer.name, consumer.stream)
        running: set[asyncio.Task[None]] = set()

        async def pull(group: asyncio.TaskGroup) -> None:
            slots = asyncio.Semaphore(concurrency)
            while not stop.is_set():
                if (message := await self._next(subscription, slots, consumer)) is None:
                    continue
                if stop.is_set():
                    return await _settle(message.nak())
                task = group.create_task(self._process(consumer, message, handle))
                running.add(task)
                task.add_done_callback(running.discard)
                task.add_done_callback(lambda _: slots.release())

        async with asyncio.TaskGroup() as group:
            group.create_task(pull(group))
            await stop.wait()
            if running:
                await asyncio.wait(running, timeout=drain.total_seconds())
            for task in running:
                task.cancel()
        await _unsubscribe(subscription)

    async def _next(
        self,
        subscription: "nats.js.JetStreamContext.PullSubscription",
        slots: asyncio.Semaphore,
        consumer: Consumer,
    ) -> Msg | None:
        """One message together with a slot for it, or neither."""
        try:
            async with asyncio.timeout(_FETCH_TIMEOUT_S):
                await slots.acquire()
        except TimeoutError:
            return None
        try:
            return (await subscription.fetch(1, timeout=_FETCH_TIMEOUT_S))[0]
        except nats.errors.TimeoutError:
            pass
        except (nats.errors.Error, OSError) as error:
            _log.warning("fetch_failed", consumer=consumer.name, error=repr(error))
            self._topology_doubted.set()
            await asyncio.sleep(_FIRST_RETRY_S)
        slots.release()
        return None

    async def _process(self, consumer: Consumer, message: Msg, handle: Handler) -> None:
        headers = dict(message.headers or {})
        delivery = Delivery(
            subject=message.subject,
            data=message.data,
            headers=headers,
            delivery_count=message.metadata.num_delivered,
            keep=lambda: _settle(message.in_progress()),
        )
        with _tracer.start_as_current_span(
            f"process {message.subject}",
            context=telemetry.context_from(headers),
            kind=SpanKind.CONSUMER,
            record_exception=False,
            set_status_on_exception=False,
            attributes={
                semconv.MESSAGING_SYSTEM: semconv.NATS,
                semconv.MESSAGING_DESTINATION_NAME: message.subject,
                semconv.MESSAGING_CONSUMER_GROUP_NAME: consumer.name,
                semconv.MESSAGING_OPERATION_NAME: "process",
                semconv.MESSAGING_OPERATION_TYPE: "process",
                semconv.MESSAGING_MESSAGE_ID: headers.get(MESSAGE_ID_HEADER, ""),
                semconv.DELIVERY_COUNT: delivery.delivery_count,
            },
        ) as span:
            try:
                await handle(delivery)
                await _settle(message.ack_sync(timeout=_ACK_TIMEOUT_S))
            except asyncio.CancelledError:
                await _settle(message.nak())
                raise
            except RetryLater as later:
                span.add_event("retry_later", {"delay_s": later.delay.total_seconds()})
                await _settle(message.nak(later.delay.total_seconds()))
            except Discard as reason:
                span.set_status(StatusCode.ERROR, str(reason))
                _log.error("message_discarded", subject=message.subject, reason=str(reason))
                await _settle(message.term())
            except Exception as error:
                span.record_exception(error)
                span.set_status(StatusCode.ERROR, type(error).__name__)
                if delivery.delivery_count >= _MAX_FAILING_DELIVERIES:
                    _log.exception("message_let_go", subject=message.subject, deliveries=delivery.delivery_count)
                    await _settle(message.ack_sync(timeout=_ACK_TIMEOUT_S))
                    return
                delay_s = retry_delay_s(delivery.delivery_count)
                _log.exception("handler_failed", subject=message.subject, retry_in_s=round(delay_s, 1))
                await _settle(message.nak(delay_s))

    async def repair_topology(self) -> None:
        """Restores what is missing, until cancelled: one repair at a time, and a pause after each.

        A broker that lost its store comes back empty; what was lost is published again from the tables.
        """
        while True:
            await self._topology_doubted.wait()
            try:
                await topology.restore(self._jetstream, replicas=self._replicas)
            except Exception as error:  # whatever it was: the next doubt tries again
                _log.warning("topology_not_restored", error=repr(error))
            self._topology_doubted.clear()
            await asyncio.sleep(_REPAIR_PAUSE_S)


def retry_delay_s(delivery_count: int) -> float:
    """Seconds until a message whose handler failed comes again: doubling from 1 to 60, with jitter of a half."""
    ceiling_s = min(_FIRST_RETRY_S * 2.0 ** min(delivery_count - 1, 10), _LAST_RETRY_S)
    return ceiling_s * random.uniform(0.5, 1.0)  # noqa: S311 jitter, no secret


async def _settle(answer: Awaitable[object]) -> None:
    """Tells the broker; when that fails the message comes again, which every handler is made for."""
    try:
        await answer
    except (nats.errors.Error, OSError) as error:
        _log.warning("settle_failed", error=repr(error))


async def _unsubscribe(subscription: "Subscription | nats.js.JetStreamContext.PullSubscription") -> None:
    try:
        await subscription.unsubscribe()
    except (nats.errors.Error, ValueError) as error:
        _log.debug("unsubscribe_failed", error=repr(error))
