"""Which uploads are to be looked after at storage, and by whom; what is done there is the upload service's business."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from services.metadata.records import Sweep, UploadState
from services.metadata.store import Store
from services.runtime.ids import MediaId, Shard, shard_of_id


@dataclass(frozen=True, slots=True)
class Sweeps:
    """The use cases of looking after uploads. Any number of sweepers may call; none gets what another has."""

    store: Store

    async def claim(self, limit: int, lease: timedelta) -> Sequence[Sweep]:
        """Takes uploads that are due for a while, the longest waiting first."""
        due = await self.store.statement(lambda transaction: transaction.uploads.due_sweeps(limit))
        claimed = [await self._claim_one(media_id, lease) for media_id in due]
        return [sweep for sweep in claimed if sweep is not None]

    async def _claim_one(self, media_id: MediaId, lease: timedelta) -> Sweep | None:
        return await self.store.statement(lambda transaction: transaction.uploads.claim_sweep(media_id, lease))

    async def finish(self, media_id: MediaId, state: UploadState, count: int, again_in: timedelta | None) -> None:
        """Says when an upload is to be looked after again; None: never, unless its state asks for it."""
        await self.store.statement(
            lambda transaction: transaction.uploads.finish_sweep(media_id, state, count, again_in)
        )

    async def orphans(self, stored: Sequence[tuple[MediaId, str]]) -> Sequence[tuple[MediaId, str]]:
        """Those of some multipart uploads at storage that no session under way calls its own."""
        orphans: list[tuple[MediaId, str]] = []
        for shard, group in itertools.groupby(sorted(stored, key=_shard), key=_shard):
            pairs = list(group)
            live = await self._live(shard, [media_id for media_id, _ in pairs])
            # A session without an identifier is just beginning: what storage lists may become its own.
            orphans += [
                (media_id, upload_id)
                for media_id, upload_id in pairs
                if media_id not in live or live[media_id] not in {None, upload_id}
            ]
        return orphans

    async def _live(self, shard: Shard, media_ids: Sequence[MediaId]) -> Mapping[MediaId, str | None]:
        return await self.store.statement(lambda transaction: transaction.uploads.live(shard, media_ids))


def _shard(stored: tuple[MediaId, str]) -> Shard:
    return shard_of_id(stored[0])
