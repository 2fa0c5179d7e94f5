"""A worker and all that it meets, of which nothing is real."""

from dataclasses import dataclass, field
from datetime import timedelta

from services.transcode import memory
from services.transcode.admission import Admission
from services.transcode.encoders import IN_SOFTWARE, Encoders
from services.transcode.engine.limits import Limits
from services.transcode.patience import Patience
from services.transcode.slots import Slots
from services.transcode.worker import Worker, WorkerPolicy
from tests.unit.pipeline import fakes
from tests.unit.pipeline.fakes import FakeAnnouncer, FakeEngine, FakeStorage, FakeTasks


@dataclass
class Rig:
    """A worker among fakes, with a lease short enough to wait for."""

    engine: FakeEngine = field(default_factory=FakeEngine)
    storage: FakeStorage = field(default_factory=FakeStorage)
    tasks: FakeTasks = field(default_factory=FakeTasks)
    announcer: FakeAnnouncer = field(default_factory=FakeAnnouncer)
    slots: Slots = field(default_factory=lambda: Slots("worker-1", {"image": 1, "video": 1}))
    lease: timedelta = timedelta(seconds=0.09)
    ack_wait: timedelta = timedelta(seconds=30)
    admission: Admission = field(default_factory=lambda: Admission(4 * memory.ORDINARY_BYTES))
    encoders: Encoders = IN_SOFTWARE
    patience: Patience = fakes.SHORT_PATIENCE
    need_bytes: int = memory.ORDINARY_BYTES
    kept: int = 0

    async def keep(self) -> None:
        self.kept += 1

    async def work(self) -> timedelta | None:
        return await self.made().work(self.tasks.task.ref, self.need_bytes, self.keep)

    def made(self) -> Worker:
        policy = WorkerPolicy(
            lease=self.lease,
            ack_wait=self.ack_wait,
            limits={"image": Limits(), "video": Limits()},
            originals_bucket="originals",
            delivery_bucket="delivery",
            patience=self.patience,
        )
        return Worker(
            engine=self.engine,
            storage=self.storage,
            tasks=self.tasks,
            announcer=self.announcer,
            slots=self.slots,
            admission=self.admission,
            policy=policy,
            encoders=self.encoders,
        )

    @property
    def delivered(self) -> dict[str, bytes]:
        return {key: data for (bucket, key), data in self.storage.objects.items() if bucket == "delivery"}
