"""Object storage and metadata service as small state machines, and crashes at a chosen step of either."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from services.runtime import ids
from services.runtime.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    MillraceError,
    NotFound,
    ResourceExhausted,
)
from services.upload.checksums import ChecksumAlgorithm
from services.upload.kinds import UploadKind
from services.upload.parts import ClaimedPart, HeldPart, Layout
from services.upload.ports import Form, Intent, PendingUpload, Sweep
from services.upload.session import Failure, Session, SessionState, StoredOriginal

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

    def soon(self, after: int) -> None:
        """Crashes after so many more steps."""
        self.after_step = len(self.steps) + after


@dataclass
class FakeStorage:
    """Uploads of all kinds in memory, with S3's answers.

    `broken_keys` are those whose every call fails; `pages` what a listing of all multipart uploads finds.
    """

    crashes: Crashes = field(default_factory=Crashes)
    uploads: dict[str, dict[int, HeldPart]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    algorithms: dict[str, ChecksumAlgorithm | None] = field(default_factory=dict)
    objects: dict[str, StoredOriginal] = field(default_factory=dict)
    broken_keys: dict[str, Exception] = field(default_factory=dict)
    pages: list[list[PendingUpload]] = field(default_factory=list)
    signed_count: int = 0
    joined_count: int = 0
    joined_checksum: str = ""
    refusal: FailedPrecondition | None = None

    async def create(self, key: str, content_type: str, algorithm: ChecksumAlgorithm | None) -> str:
        upload_id = f"upload-{len(self.keys) + 1}"
        self.uploads[upload_id] = {}
        self.keys[upload_id] = key
        self.algorithms[upload_id] = algorithm
        self.crashes.took_effect("storage.create")
        return upload_id

    def sign_parts(
        self, key: str, upload_id: str, headers: Mapping[int, Mapping[str, str]], expires_in: timedelta
    ) -> Mapping[int, str]:
        self.signed_count += len(headers)
        return {
            number: f"part {number} of {upload_id}: {_said(bound)}, for {expires_in}"
            for number, bound in headers.items()
        }

    def sign_put(self, key: str, headers: Mapping[str, str], expires_in: timedelta) -> str:
        self.signed_count += 1
        return f"put {key}: {_said(headers)}, for {expires_in}"

    def sign_form(self, key: str, max_size_bytes: int, expires_in: timedelta) -> Form:
        self.signed_count += 1
        return Form(f"form, for {expires_in}", {"key": key, "max_size_bytes": str(max_size_bytes)})

    async def list_parts(self, key: str, upload_id: str) -> Sequence[HeldPart]:
        parts = self._upload(upload_id)
        self.crashes.took_effect("storage.list")
        return [parts[number] for number in sorted(parts)]

    async def complete(
        self, key: str, upload_id: str, claimed: Sequence[ClaimedPart], algorithm: ChecksumAlgorithm | None
    ) -> None:
        held = self._upload(upload_id)
        if self.refusal:
            raise self.refusal
        assert algorithm == self.algorithms[upload_id]
        numbers = [part.number for part in claimed]
        assert numbers == sorted(numbers)
        assert set(numbers) <= set(held)
        size_bytes = sum(held[number].size_bytes for number in numbers)
        # Of the parts' CRCs storage makes that of the whole; of their hashes it cannot.
        whole: dict[ChecksumAlgorithm, str] = {}
        if algorithm is ChecksumAlgorithm.CRC32C:
            whole[algorithm] = self.joined_checksum
        self.objects[key] = StoredOriginal(key, f"joined-{len(claimed)}", size_bytes, whole)
        del self.uploads[upload_id]
        self.joined_count += 1
        self.crashes.took_effect("storage.complete")

    async def abort(self, key: str, upload_id: str) -> None:
        self._check(key)
        self.uploads.pop(upload_id, None)
        self.crashes.took_effect("storage.abort")

    async def head(self, key: str) -> StoredOriginal:
        self.crashes.took_effect("storage.head")
        if key not in self.objects:
            raise NotFound("no such object")
        return self.objects[key]

    async def exists(self, key: str) -> bool:
        self._check(key)
        self.crashes.took_effect("storage.exists")
        return key in self.objects

    async def copy(self, source_key: str, etag: str, key: str) -> None:
        if source_key not in self.objects:
            raise NotFound("no such source")
        source = self.objects[source_key]
        if source.etag != etag or key in self.objects:
            raise AlreadyExists("other bytes, or taken")
        self.objects[key] = replace(source, s3_key=key)
        self.crashes.took_effect("storage.copy")

    async def delete(self, key: str) -> None:
        self._check(key)
        self.objects.pop(key, None)
        self.crashes.took_effect("storage.delete")

    async def pending(self, after: tuple[str, str]) -> tuple[Sequence[PendingUpload], tuple[str, str] | None]:
        number = int(after[0] or "0")
        following = (str(number + 1), "") if number + 1 < len(self.pages) else None
        return (self.pages[number] if self.pages else []), following

    def put(self, session: Session, *numbers: int) -> list[ClaimedPart]:
        """What a client's PUTs do."""
        layout = session.layout
        sizes = {number: layout.size_of(number) for number in numbers or range(1, layout.part_count + 1)}
        return self.put_sizes(session, sizes)

    def put_sizes(self, session: Session, sizes_bytes: Mapping[int, int]) -> list[ClaimedPart]:
        """The same, in sizes of the client's own choice."""
        if session.kind is UploadKind.PUT:
            self.objects[session.s3_key] = StoredOriginal(session.s3_key, "etag-1", sizes_bytes[1])
            return [ClaimedPart(1, "etag-1")]
        for number, size_bytes in sizes_bytes.items():
            self._upload(session.upload_id)[number] = HeldPart(number, f"etag-{number}", size_bytes)
        return [ClaimedPart(part.number, part.etag) for part in self._upload(session.upload_id).values()]

    def post(self, session: Session, etag: str = "posted", size_bytes: int = 1_000) -> None:
        """What a browser's form does."""
        self.objects[session.incoming_key] = StoredOriginal(session.incoming_key, etag, size_bytes)

    def _check(self, key: str) -> None:
        if key in self.broken_keys:
            raise self.broken_keys[key]

    def _upload(self, upload_id: str) -> dict[int, HeldPart]:
        if upload_id not in self.uploads:
            raise NotFound("no such upload")
        return self.uploads[upload_id]


@dataclass
class FakeRecords:
    """The metadata service's upload sessions in memory.

    `room_bytes` is what the quota still has; `due` what is to be looked after; `known` the multipart uploads that are
    no orphans.
    """

    crashes: Crashes = field(default_factory=Crashes)
    sessions: dict[str, Session] = field(default_factory=dict)
    by_request: dict[str, str] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    announced: list[StoredOriginal] = field(default_factory=list)
    intents: list[Intent] = field(default_factory=list)
    measured: list[int] = field(default_factory=list)
    room_bytes: int = 10**15
    refusal: MillraceError | None = None
    due: list[Sweep] = field(default_factory=list)
    finished: list[tuple[str, timedelta | None]] = field(default_factory=list)
    known: set[tuple[str, str]] = field(default_factory=set)
    asked_orphans: list[tuple[str, str]] = field(default_factory=list)

    async def create(self, user_id: str, intent: Intent) -> Session:
        self.intents.append(intent)
        if self.refusal:
            raise self.refusal
        if intent.request_id in self.by_request:
            return self.sessions[self.by_request[intent.request_id]]
        self._reserve(intent.claim.size_bytes)
        self.sessions[intent.media_id] = Session(
            media_id=intent.media_id,
            user_id=user_id,
            s3_key=ids.original_key(ids.parse_media_id(intent.media_id)),
            upload_id=intent.upload_id,
            layout=Layout(intent.claim.size_bytes, intent.part_size_bytes),
            state=SessionState.OPEN,
            content_type=intent.claim.content_type,
            media_type=intent.claim.media_type,
            traceparent=TRACEPARENT,
            kind=intent.kind,
            checksum_algorithm=intent.checksum_algorithm,
            checksum=intent.checksum,
        )
        self.by_request[intent.request_id] = intent.media_id
        self.crashes.took_effect("records.create")
        return self.sessions[intent.media_id]

    async def get(self, user_id: str, media_id: str) -> Session:
        session = self.sessions.get(media_id)
        if session is None or session.user_id != user_id:
            raise NotFound("no such media")
        return session

    async def begin_complete(self, user_id: str, media_id: str, *, size_bytes: int, checksum: str) -> Session:
        session = await self.get(user_id, media_id)
        if session.state is SessionState.ABORTED:
            raise FailedPrecondition("aborted", reason="UPLOAD_ABORTED")
        if session.state is not SessionState.COMPLETED:
            if size_bytes and not session.layout.is_known:
                self._reserve(size_bytes)
            self.measured.append(size_bytes)
            self.set(media_id, state=SessionState.COMPLETING, checksum=session.checksum or checksum)
        self.crashes.took_effect("records.begin_complete")
        return self.sessions[media_id]

    async def reopen(self, media_id: str) -> None:
        if self.sessions[media_id].state is SessionState.COMPLETING:
            self.set(media_id, state=SessionState.OPEN)
        self.crashes.took_effect("records.reopen")

    async def begin_processing(self, media_id: str, original: StoredOriginal) -> None:
        state = self.sessions[media_id].state
        if state in {SessionState.OPEN, SessionState.COMPLETING}:
            self.set(media_id, state=SessionState.COMPLETED)
            self.announced.append(original)
        elif state is not SessionState.COMPLETED:
            raise FailedPrecondition(f"it is {state}")
        elif original != self.announced[-1]:
            raise FailedPrecondition("another original is pinned", reason="ORIGINAL_DIFFERS")
        self.crashes.took_effect("records.begin_processing")

    async def abort(self, user_id: str, media_id: str, failure: Failure) -> Session:
        session = await self.get(user_id, media_id)
        if session.state in {SessionState.COMPLETING, SessionState.COMPLETED}:
            raise FailedPrecondition("too late", reason="UPLOAD_COMPLETING")
        if session.state is SessionState.OPEN:
            self.set(media_id, state=SessionState.ABORTED)
            self.failures[media_id] = failure
        self.crashes.took_effect("records.abort")
        return self.sessions[media_id]

    async def claim_sweeps(self, limit: int, lease: timedelta) -> Sequence[Sweep]:
        claimed, self.due = self.due[:limit], self.due[limit:]
        return claimed

    async def finish_sweep(self, sweep: Sweep, again_in: timedelta | None) -> None:
        self.finished.append((sweep.session.media_id, again_in))

    async def orphans(self, stored: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        if len(stored) > 100:
            raise DeadlineExceeded("each takes its time")
        self.asked_orphans += stored
        return [pair for pair in stored if pair not in self.known]

    def set(self, media_id: str, *, state: SessionState | None = None, checksum: str | None = None) -> Session:
        """Has a session as somebody else left it."""
        session = self.sessions[media_id]
        self.sessions[media_id] = replace(
            session,
            state=session.state if state is None else state,
            checksum=session.checksum if checksum is None else checksum,
        )
        return self.sessions[media_id]

    def _reserve(self, size_bytes: int) -> None:
        if size_bytes > self.room_bytes:
            raise ResourceExhausted("no room", reason="QUOTA_EXCEEDED")


def used_for_another() -> InvalidArgument:
    """What the records answer to a request id of another file."""
    return InvalidArgument("another upload", reason="REQUEST_ID_REUSED")


def _said(headers: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in headers.items())
