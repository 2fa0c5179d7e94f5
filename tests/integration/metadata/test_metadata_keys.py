"""Idempotency keys: of all who send one, exactly one carries the request out, and all are answered the same."""

import asyncio
import uuid
from datetime import timedelta

import pytest

from media.v1 import metadata_service_pb2 as pb
from services.metadata import app
from services.metadata.reconciler import Reconciler
from services.metadata.settings import MetadataSettings
from services.metadata.store import Store
from services.runtime import errors, ids
from services.runtime.grpc_client import call
from tests.integration.metadata.calls import Metadata, Sql, duration

ANSWER = pb.StoredAnswer(status=201, headers={"Location": "/v1/media/x"}, body=b'{"a": "\xc3\xa4\x00"}')
AT_ONCE = 20


@pytest.fixture
def reconciler(settings: MetadataSettings, store: Store) -> Reconciler:
    return app.reconciler(settings, store)


async def let_lease_run_out(sql: Sql, user: str) -> None:
    await sql.execute("UPDATE requests SET lease_until = now() WHERE user_id = $1", user)


async def let_time_run_out(sql: Sql, user: str) -> None:
    await sql.execute("UPDATE requests SET expires_at = now() WHERE user_id = $1", user)


async def refusal(metadata: Metadata, user: str, *, body: bytes = b"") -> str:
    """The reason for which a repeat is refused."""
    with pytest.raises(errors.MillraceError) as refused:
        await metadata.begin_request(user, body=body)
    return refused.value.reason


async def test_the_first_carries_it_out_and_repeats_get_its_answer(metadata: Metadata, user: str) -> None:
    first = await metadata.begin_request(user)
    assert not first.HasField("answer")
    assert ids.shard_of_id(uuid.UUID(first.operation_id)) == ids.shard_of_user(user)
    await metadata.end_request(user, first.operation_id, answer=ANSWER)
    for _ in range(3):
        repeat = await metadata.begin_request(user)
        assert (repeat.operation_id, repeat.answer) == (first.operation_id, ANSWER)


async def test_an_empty_answer_is_an_answer(metadata: Metadata, user: str) -> None:
    first = await metadata.begin_request(user)
    await metadata.end_request(user, first.operation_id, answer=pb.StoredAnswer())
    assert (await metadata.begin_request(user)).HasField("answer")


async def test_another_request_under_the_same_key_is_refused_at_any_time(
    metadata: Metadata, user: str, sql: Sql
) -> None:
    first = await metadata.begin_request(user)
    assert await refusal(metadata, user, body=b"other") == "IDEMPOTENCY_KEY_REUSED"
    await let_lease_run_out(sql, user)
    assert await refusal(metadata, user, body=b"other") == "IDEMPOTENCY_KEY_REUSED"
    await metadata.end_request(user, first.operation_id, outcome_unknown=True)
    assert await refusal(metadata, user, body=b"other") == "IDEMPOTENCY_KEY_REUSED"
    await metadata.end_request(user, first.operation_id, answer=ANSWER)
    assert await refusal(metadata, user, body=b"other") == "IDEMPOTENCY_KEY_REUSED"


async def test_whoever_comes_while_it_is_under_way_is_told_to_wait(metadata: Metadata, user: str) -> None:
    await metadata.begin_request(user)
    with pytest.raises(errors.FailedPrecondition) as refused:
        await metadata.begin_request(user)
    assert refused.value.reason == "REQUEST_IN_FLIGHT"
    assert 1 <= int(refused.value.details["retry_after_s"]) <= 2


async def test_keys_belong_to_their_owners(metadata: Metadata, user: str) -> None:
    operations = {
        (await metadata.begin_request(who, key)).operation_id
        for who, key in ((user, "a"), (user, "b"), (f"{user}-2", "a"))
    }
    assert len(operations) == 3


async def test_of_many_who_begin_at_once_one_carries_it_out(metadata: Metadata, user: str, sql: Sql) -> None:
    operation_id = await the_one_of_many(metadata, user)
    await let_lease_run_out(sql, user)
    assert await the_one_of_many(metadata, user) == operation_id
    await metadata.end_request(user, operation_id, outcome_unknown=True)
    assert await the_one_of_many(metadata, user) == operation_id
    await let_time_run_out(sql, user)
    assert await the_one_of_many(metadata, user) != operation_id


async def the_one_of_many(metadata: Metadata, user: str) -> str:
    """The operation of the only one of those who begin at once; all others are to wait."""
    outcomes = await asyncio.gather(*(metadata.begin_request(user) for _ in range(AT_ONCE)), return_exceptions=True)
    refused = [one.reason for one in outcomes if isinstance(one, errors.FailedPrecondition)]
    assert refused == ["REQUEST_IN_FLIGHT"] * (AT_ONCE - 1), outcomes
    (begun,) = [one for one in outcomes if isinstance(one, pb.BeginRequestResponse)]
    return begun.operation_id


async def test_whoever_lost_its_place_to_another_changes_nothing(metadata: Metadata, user: str, sql: Sql) -> None:
    late, now = str(uuid.uuid4()), str(uuid.uuid4())
    await metadata.begin_request(user, claim_id=late)
    await let_lease_run_out(sql, user)
    operation_id = (await metadata.begin_request(user, claim_id=now)).operation_id
    for unknown in (True, False):
        await metadata.end_request(user, operation_id, outcome_unknown=unknown, claim_id=late)
        assert await refusal(metadata, user) == "REQUEST_IN_FLIGHT"
    await metadata.end_request(user, operation_id, answer=pb.StoredAnswer(status=500), claim_id=late)
    await metadata.end_request(user, operation_id, answer=ANSWER, claim_id=now)
    assert (await metadata.begin_request(user)).answer == ANSWER


async def test_a_call_that_is_repeated_recognises_itself(metadata: Metadata, user: str, sql: Sql) -> None:
    claim_id = str(uuid.uuid4())
    first = await metadata.begin_request(user, claim_id=claim_id)
    answers = await asyncio.gather(*(metadata.begin_request(user, claim_id=claim_id) for _ in range(5)))
    assert {answer.operation_id for answer in answers} == {first.operation_id}
    assert not any(answer.HasField("answer") for answer in answers)
    await metadata.end_request(user, first.operation_id, answer=ANSWER)
    assert (await metadata.begin_request(user, claim_id=claim_id)).answer == ANSWER


async def test_one_that_lost_its_lease_to_another_is_under_way_elsewhere(
    metadata: Metadata, user: str, sql: Sql
) -> None:
    claim_id = str(uuid.uuid4())
    await metadata.begin_request(user, claim_id=claim_id)
    await let_lease_run_out(sql, user)
    await metadata.begin_request(user)
    with pytest.raises(errors.FailedPrecondition):
        await metadata.begin_request(user, claim_id=claim_id)


class TestTakenOver:
    """The first caller was not heard of for longer than its lease."""

    async def test_it_is_the_same_operation(self, metadata: Metadata, user: str, sql: Sql) -> None:
        first = await metadata.begin_request(user)
        await let_lease_run_out(sql, user)
        second = await metadata.begin_request(user)
        assert not second.HasField("answer")
        assert second.operation_id == first.operation_id
        assert await refusal(metadata, user) == "REQUEST_IN_FLIGHT"

    async def test_a_lease_runs_out_by_itself(self, metadata: Metadata, user: str) -> None:
        first = await metadata.begin_request(user, lease=timedelta(milliseconds=50))
        await asyncio.sleep(0.1)
        assert (await metadata.begin_request(user)).operation_id == first.operation_id

    async def test_the_first_answer_stays_whoever_gives_it(self, metadata: Metadata, user: str, sql: Sql) -> None:
        operation_id = (await metadata.begin_request(user)).operation_id
        await let_lease_run_out(sql, user)
        await metadata.begin_request(user)
        await metadata.end_request(user, operation_id, answer=ANSWER)
        await metadata.end_request(user, operation_id, answer=pb.StoredAnswer(status=500))
        for unknown in (True, False):
            await metadata.end_request(user, operation_id, outcome_unknown=unknown)
        assert (await metadata.begin_request(user)).answer == ANSWER


class TestEndsWithoutAnAnswer:
    async def test_one_that_had_no_effect_frees_its_key(self, metadata: Metadata, user: str) -> None:
        first = await metadata.begin_request(user)
        await metadata.end_request(user, first.operation_id)
        second = await metadata.begin_request(user, body=b"other")
        assert second.operation_id != first.operation_id

    async def test_one_that_may_have_had_some_is_carried_out_again_as_the_same_operation(
        self, metadata: Metadata, user: str
    ) -> None:
        first = await metadata.begin_request(user)
        await metadata.end_request(user, first.operation_id, outcome_unknown=True)
        second = await metadata.begin_request(user)
        assert (second.operation_id, second.HasField("answer")) == (first.operation_id, False)
        assert await refusal(metadata, user) == "REQUEST_IN_FLIGHT"
        await metadata.end_request(user, first.operation_id, answer=ANSWER)
        assert (await metadata.begin_request(user)).answer == ANSWER

    async def test_whoever_ends_another_operation_changes_nothing(self, metadata: Metadata, user: str) -> None:
        first = await metadata.begin_request(user)
        await metadata.end_request(user, first.operation_id)
        second = await metadata.begin_request(user)
        for answer, unknown in ((None, False), (None, True), (ANSWER, False)):
            await metadata.end_request(user, first.operation_id, answer=answer, outcome_unknown=unknown)
            assert await refusal(metadata, user) == "REQUEST_IN_FLIGHT"
        await metadata.end_request(f"{user}-2", second.operation_id, answer=ANSWER)
        await metadata.end_request(user, second.operation_id, "another key", answer=ANSWER)
        assert await refusal(metadata, user) == "REQUEST_IN_FLIGHT"


class TestAfterItsTime:
    @pytest.mark.parametrize("was_answered", [True, False])
    async def test_a_key_begins_anew_for_any_request(
        self, was_answered: bool, metadata: Metadata, user: str, sql: Sql
    ) -> None:
        first = await metadata.begin_request(user)
        if was_answered:
            await metadata.end_request(user, first.operation_id, answer=ANSWER)
        await let_time_run_out(sql, user)
        second = await metadata.begin_request(user, body=b"other")
        assert not second.HasField("answer")
        assert second.operation_id != first.operation_id
        await metadata.end_request(user, first.operation_id, answer=pb.StoredAnswer(status=500))
        await metadata.end_request(user, second.operation_id, answer=ANSWER)
        assert (await metadata.begin_request(user, body=b"other")).answer == ANSWER
        assert await refusal(metadata, user) == "IDEMPOTENCY_KEY_REUSED"

    async def test_the_reconciler_forgets_what_is_past_it_and_nothing_else(
        self, metadata: Metadata, reconciler: Reconciler, user: str, sql: Sql
    ) -> None:
        for key in ("old", "answered", "new"):
            begun = await metadata.begin_request(user, key)
            if key != "old":
                await metadata.end_request(user, begun.operation_id, key, answer=ANSWER)
        await sql.execute(
            "UPDATE requests SET expires_at = now() WHERE user_id = $1 AND idempotency_key <> 'new'", user
        )
        findings = await reconciler.run_once()
        assert findings is not None
        assert findings.forgotten >= 2
        left = await sql.fetch("SELECT idempotency_key FROM requests WHERE user_id = $1", user)
        assert [row["idempotency_key"] for row in left] == ["new"]
        assert (await metadata.begin_request(user, "new")).answer == ANSWER

    async def test_one_that_began_anew_is_not_forgotten(
        self, metadata: Metadata, reconciler: Reconciler, user: str, sql: Sql
    ) -> None:
        await metadata.begin_request(user)
        await let_time_run_out(sql, user)
        again = await metadata.begin_request(user)
        await reconciler.run_once()
        await metadata.end_request(user, again.operation_id, answer=ANSWER)
        assert (await metadata.begin_request(user)).answer == ANSWER


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "k" * 256}, "idempotency_key"),
        ({"fingerprint": b"short"}, "fingerprint"),
        ({"claim_id": "7"}, "claim_id"),
        ({"user_id": ""}, "user_id"),
        ({"lease": None}, "lease"),
        ({"keep": None}, "keep"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_what_makes_no_sense_is_refused(
    changed: dict[str, object], field: str, metadata: Metadata, user: str
) -> None:
    fields: dict[str, object] = {
        "user_id": user,
        "idempotency_key": "k",
        "fingerprint": bytes(32),
        "lease": duration(timedelta(minutes=1)),
        "keep": duration(timedelta(hours=24)),
    }
    request = pb.BeginRequestRequest(**{**fields, **changed})  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidArgument) as refused:
        await call(metadata.stub.BeginRequest, request)
    assert refused.value.details["field"] == field
