"""Object storage and metadata service as small state machines, and crashes at a chosen step of either."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from services.runtime.errors import FailedPrecondition, NotFound
from services.upload.claims import Claim
from services.upload.parts import ClaimedPart, HeldPart, Layout
from services.upload.sessions import Failure, Session, SessionState, StoredOriginal

USER = "alice"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Crash(Exception):
    """The process ends here: the step took effect, its caller never hears of it."""


@dataclass
class Crashes:
    """Counts steps over all fakes and crashes after one of them."""

    after_step: int = 10**9
    steps: list[str] = field(default_factory=list)

    def took_effect(self, step: str) -> None:
        self.steps.append(step)
        if len(self.steps) == self.after_step:
            raise Crash(step)


@dataclass
class FakeStorage:
    """Multipart uploads in memory, with S3's answers."""

    crashes: Crashes = field(default_factory=Crashes)
    uploads: dict[str, dict[int, HeldPart]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    objects: dict[str, StoredOriginal] = field(default_factory=dict)
    joined_count: int = 0
    refusal: FailedPrecondition | None = None

    async def create(self, key: str, content_type: str) -> str:
        upload_id = f"upload-{len(self.keys) + 1}"
        self.uploads[upload_id] = {}
        self.keys[upload_id] = key
        self.crashes.took_effect("storage.create")
        return upload_id

    async def sign(
        self, key: str, upload_id: str, sizes_bytes: Mapping[int, int], expires_in: timedelta
    ) -> Mapping[int, str]:
        return {number: f"https://storage/{key}?n={number}&size={size}" for number, size in sizes_bytes.items()}

    async def list_parts(self, key: str, upload_id: str) -> Sequence[HeldPart]:
        parts = self._upload(upload_id)
        self.crashes.took_effect("storage.list")
        return [parts[number] for number in sorted(parts)]

    async def complete(self, key: str, upload_id: str, claimed: Sequence[ClaimedPart]) -> None:
        held = self._upload(upload_id)
        if self.refusal:
            raise self.refusal
        assert [part.number for part in claimed] == sorted(held)
        size_bytes = sum(part.size_bytes for part in held.values())
        self.objects[key] = StoredOriginal(key, f"joined-{len(claimed)}", size_bytes)
        del self.uploads[upload_id]
        self.joined_count += 1
        self.crashes.took_effect("storage.complete")

    async def abort(self, key: str, upload_id: str) -> None:
        self.uploads.pop(upload_id, None)
        self.crashes.took_effect("storage.abort")

    async def head(self, key: str) -> StoredOriginal:
        self.crashes.took_effect("storage.head")
        if key not in self.objects:
            raise NotFound("no such object")
        return self.objects[key]

    def put(self, session: Session, *numbers: int) -> list[ClaimedPart]:
        """What a client's PUTs do."""
        layout = session.layout
        for number in numbers or range(1, layout.part_count + 1):
            part = HeldPart(number, f"etag-{number}", layout.size_of(number))
            self._upload(session.upload_id)[number] = part
        return [ClaimedPart(part.number, part.etag) for part in self._upload(session.upload_id).values()]

    def _upload(self, upload_id: str) -> dict[int, HeldPart]:
        if upload_id not in self.uploads:
            raise NotFound("no such upload")
        return self.uploads[upload_id]


@dataclass
class FakeRecords:
    """The metadata service's upload sessions in memory."""

    crashes: Crashes = field(default_factory=Crashes)
    sessions: dict[str, Session] = field(default_factory=dict)
    by_request: dict[str, str] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    announced: list[StoredOriginal] = field(default_factory=list)
    attach_first: str = ""

    async def create(
        self, user_id: str, claim: Claim, part_size_bytes: int, time_to_live: timedelta, request_id: str
    ) -> Session:
        if request_id in self.by_request:
            return self.sessions[self.by_request[request_id]]
        media_id = f"media-{len(self.sessions) + 1}"
        self.sessions[media_id] = Session(
            media_id=media_id,
            user_id=user_id,
            s3_key=f"abc/{media_id}/original",
            upload_id="",
            layout=Layout(claim.size_bytes, part_size_bytes),
            state=SessionState.OPEN,
            content_type=claim.content_type,
            traceparent=TRACEPARENT,
        )
        if request_id:
            self.by_request[request_id] = media_id
        self.crashes.took_effect("records.create")
        return self.sessions[media_id]

    async def attach(self, media_id: str, upload_id: str) -> Session:
        session = self.sessions[media_id]
        if not session.upload_id:
            self._set(media_id, upload_id=self.attach_first or upload_id)
        self.crashes.took_effect("records.attach")
        return self.sessions[media_id]

    async def get(self, user_id: str, media_id: str) -> Session:
        session = self.sessions.get(media_id)
        if session is None or session.user_id != user_id:
            raise NotFound("no such media")
        return session

    async def begin_complete(self, user_id: str, media_id: str) -> Session:
        session = await self.get(user_id, media_id)
        if session.state is SessionState.ABORTED:
            raise FailedPrecondition("aborted", reason="UPLOAD_ABORTED")
        if session.state is SessionState.OPEN:
            self._set(media_id, state=SessionState.COMPLETING)
        self.crashes.took_effect("records.begin_complete")
        return self.sessions[media_id]

    async def reopen(self, media_id: str) -> None:
        if self.sessions[media_id].state is SessionState.COMPLETING:
            self._set(media_id, state=SessionState.OPEN)
        self.crashes.took_effect("records.reopen")

    async def begin_processing(self, media_id: str, original: StoredOriginal) -> None:
        state = self.sessions[media_id].state
        if state in {SessionState.OPEN, SessionState.COMPLETING}:
            self._set(media_id, state=SessionState.COMPLETED)
            self.announced.append(original)
        elif state is not SessionState.COMPLETED:
            raise FailedPrecondition(f"it is {state}")
        self.crashes.took_effect("records.begin_processing")

    async def abort(self, user_id: str, media_id: str, failure: Failure) -> Session:
        session = await self.get(user_id, media_id)
        if session.state in {SessionState.COMPLETING, SessionState.COMPLETED}:
            raise FailedPrecondition("too late", reason="UPLOAD_COMPLETING")
        if session.state is SessionState.OPEN:
            self._set(media_id, state=SessionState.ABORTED)
            self.failures[media_id] = failure
        self.crashes.took_effect("records.abort")
        return self.sessions[media_id]

    def _set(self, media_id: str, *, state: SessionState | None = None, upload_id: str | None = None) -> None:
        session = self.sessions[media_id]
        self.sessions[media_id] = replace(
            session,
            state=session.state if state is None else state,
            upload_id=session.upload_id if upload_id is None else upload_id,
        )
