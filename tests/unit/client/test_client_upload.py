import os
from collections import Counter
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import httpx
import pytest

from millrace import (
    ChecksumAlgorithm,
    FileUnusable,
    Media,
    NetworkError,
    QuotaExceeded,
    Refused,
    ServiceFault,
    StorageRefused,
    UnexpectedAnswer,
    checksums,
    transfer,
    upload,
)
from tests.unit.client.fakes import HASTY, FakeService, base64_of, problem, s3_error

uploads = import_module("millrace.upload")  # the package's own `upload` is the function
CRC32C, SHA256 = ChecksumAlgorithm
CONTENT = b"0123456789abcdefghijklmnopqrstuvwxyz!"  # ten parts of four bytes, the last of one


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(CONTENT)
    return path


async def send(
    service: FakeService, clip: Path, *, parallel: int = 4, checksum: ChecksumAlgorithm | None = CRC32C
) -> tuple[Media, list[int]]:
    told: list[int] = []
    async with service.client() as client:
        media = await upload(
            client, clip, parallel=parallel, checksum=checksum, on_progress=lambda sent, _: told.append(sent)
        )
    return media, told


def stored(service: FakeService) -> bytes:
    return b"".join(content for _, content in sorted(service.stored.items()))


async def test_every_byte_arrives_once_and_is_counted(clip: Path) -> None:
    service = FakeService()
    media, told = await send(service, clip)
    assert media.status == "processing"
    assert stored(service) == CONTENT
    assert len(service.to("storage.test")) == 10
    assert told == sorted(told)
    assert told[-1] == 37


@pytest.mark.parametrize("parallel", [1, 3, 64])
async def test_no_more_parts_are_in_flight_than_asked_for(clip: Path, parallel: int) -> None:
    service = FakeService(put_takes_s=0.1)
    await send(service, clip, parallel=parallel)
    assert service.most_in_flight == min(parallel, 10)


async def test_one_trace_for_the_whole_upload_and_no_secret_for_storage(clip: Path) -> None:
    service = FakeService(window=3)
    await send(service, clip)
    assert len({request.headers["traceparent"] for request in service.to("gateway.test")}) == 1
    assert {request.headers["authorization"] for request in service.to("gateway.test")} == {"Bearer secret"}
    for request in service.to("storage.test"):
        assert not {"authorization", "traceparent"} & set(request.headers)


@pytest.mark.parametrize(
    ("checksum", "signed"),
    [(None, [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10]]), (CRC32C, [[], [1, 2, 3, 4], [5, 6, 7, 8, 9, 10]])],
    ids=["without checksums the first window is used", "with checksums they are computed first"],
)
async def test_parts_are_signed_a_few_at_a_time_and_once_each(
    monkeypatch: pytest.MonkeyPatch, clip: Path, checksum: ChecksumAlgorithm | None, signed: list[list[int]]
) -> None:
    monkeypatch.setattr(uploads, "SMALL_BYTES", 0)
    service = FakeService(window=3)
    await send(service, clip, checksum=checksum)
    assert service.signed == signed


@pytest.fixture
def long_clip(clip: Path) -> Path:
    clip.write_bytes(bytes(100))
    return clip


async def test_nothing_is_signed_far_ahead_of_what_is_sent(long_clip: Path) -> None:
    service = FakeService(part_size_bytes=1)
    ahead: list[int] = []
    service.on_put = lambda number: ahead.append(max(map(max, filter(None, service.signed))) - number)
    await send(service, long_clip, parallel=4)
    assert max(ahead) <= 4 + 4 + 16  # in flight, ready, and in preparation


@pytest.mark.parametrize(
    "fault",
    [httpx.Response(503), httpx.Response(500), s3_error(400, "RequestTimeout"), httpx.WriteError("broken pipe"),
     httpx.RemoteProtocolError("closed"), httpx.ReadTimeout("")],
    ids=str,
)  # fmt: skip
async def test_a_part_that_fails_is_sent_again_alone(clip: Path, fault: Exception | httpx.Response) -> None:
    service = FakeService()
    service.faults["PUT 5"] = [fault]
    _, told = await send(service, clip, parallel=1)
    assert stored(service) == CONTENT
    assert [request.url.path for request in service.to("storage.test")].count("/5") == 2
    assert len(service.to("storage.test")) == 11
    assert told[-1] == 37
    assert told[6] < told[5]  # what the failed try had counted was taken back


async def test_expired_urls_are_signed_afresh(clip: Path) -> None:
    service = FakeService()
    service.on_put = lambda number: service.refused_signatures.add(1) if number == 3 else None
    await send(service, clip, parallel=1, checksum=None)
    assert stored(service) == CONTENT
    assert service.signed == [[*range(1, 11)], *([number] for number in range(3, 11))]


async def test_urls_that_are_about_to_expire_are_not_used(clip: Path) -> None:
    service = FakeService(url_ttl=timedelta(seconds=5))
    await send(service, clip, parallel=1, checksum=None)
    used = [int(request.url.params["signature"]) for request in service.to("storage.test")]
    assert [service.signed[signature - 1] for signature in used] == [[number] for number in range(1, 11)]


async def test_a_url_that_is_never_accepted_ends_the_upload(clip: Path) -> None:
    service = FakeService()
    service.refused_signatures = set(range(100))
    with pytest.raises(StorageRefused, match="every URL of part"):
        await send(service, clip)
    assert service.requests[-1].method == "DELETE"


async def test_a_refusal_for_good_is_not_repeated_and_the_upload_is_aborted(clip: Path) -> None:
    service = FakeService()
    service.faults["PUT 2"] = [s3_error(404, "NoSuchUpload")]
    with pytest.raises(StorageRefused, match="NoSuchUpload") as caught:
        await send(service, clip, parallel=1)
    assert caught.value.code == "NoSuchUpload"
    assert len(service.to("storage.test")) == 2
    assert service.requests[-1].method == "DELETE"


async def test_a_dead_link_ends_in_a_network_error_and_leaves_the_upload_open(clip: Path) -> None:
    service = FakeService()
    service.faults["PUT 2"] = [httpx.ConnectError("no route")] * 10
    with pytest.raises(NetworkError, match="part 2: no route"):
        await send(service, clip)
    assert len(service.faults["PUT 2"]) == 10 - HASTY.attempts
    assert "DELETE" not in {request.method for request in service.requests}


async def test_a_file_that_changes_meanwhile_is_not_completed(clip: Path) -> None:
    service = FakeService()
    service.on_put = lambda number: os.utime(clip, (1, 1)) if number == 3 else None
    with pytest.raises(FileUnusable, match="changed"):
        await send(service, clip, parallel=1)
    assert service.requests[-1].method == "DELETE"


async def test_initiate_is_repeated_under_one_key(clip: Path) -> None:
    service = FakeService()
    service.faults["POST /v1/initiate-upload"] = [httpx.ReadTimeout(""), problem(503, "unavailable")]
    await send(service, clip)
    keys = [request.headers["idempotency-key"] for request in service.requests if "initiate" in request.url.path]
    assert len(keys) == 3
    assert len(set(keys)) == 1


async def test_complete_is_repeated_when_its_answer_is_lost(clip: Path) -> None:
    service = FakeService()
    service.faults["POST /v1/complete-upload"] = [httpx.ReadError("reset")]
    media, _ = await send(service, clip)
    assert media.status == "processing"


async def test_a_refusal_is_not_repeated(clip: Path) -> None:
    service = FakeService()
    service.faults["POST /v1/initiate-upload"] = [problem(400, "too-large")]
    with pytest.raises(Refused) as caught:
        await send(service, clip)
    assert caught.value.type.endswith("/too-large")
    assert len(service.requests) == 1


async def test_a_service_that_keeps_failing_is_given_up(clip: Path) -> None:
    service = FakeService()
    service.faults["POST /v1/initiate-upload"] = [problem(503, "unavailable") for _ in range(10)]
    with pytest.raises(ServiceFault):
        await send(service, clip)
    assert len(service.requests) == HASTY.attempts


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(200, text="<html>hello</html>"), httpx.Response(200, json={"media_id": "x"}),
     httpx.Response(302, headers={"location": "https://login.test"})],
    ids=str,
)  # fmt: skip
async def test_what_is_no_gateway_is_recognised(clip: Path, answer: httpx.Response) -> None:
    service = FakeService()
    service.faults["POST /v1/initiate-upload"] = [answer]
    with pytest.raises(UnexpectedAnswer):
        await send(service, clip)


# -- checksums ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("small_bytes", [0, 1000], ids=["large", "small"])
@pytest.mark.parametrize("checksum", [CRC32C, SHA256, None])
async def test_parts_and_the_whole_carry_their_checksums(
    monkeypatch: pytest.MonkeyPatch, clip: Path, checksum: ChecksumAlgorithm | None, small_bytes: int
) -> None:
    monkeypatch.setattr(uploads, "SMALL_BYTES", small_bytes)
    service = FakeService()
    await send(service, clip, checksum=checksum)  # the fake compares what it stores with each of them
    assert stored(service) == CONTENT
    [begun], [completed] = service.asked("/initiate-upload"), service.asked("/complete-upload")
    assert begun.get("checksum_algorithm") == checksum
    assert begun.get("checksum") == (base64_of(checksum, CONTENT) if checksum and small_bytes else None)
    assert completed.get("checksum") == (base64_of(checksum, CONTENT) if checksum else None)


async def test_a_part_damaged_on_its_way_is_read_and_sent_again(clip: Path) -> None:
    service = FakeService(damaged=Counter({5: 1}))
    await send(service, clip)
    assert stored(service) == CONTENT
    assert len(service.to("storage.test")) == 11


async def test_a_part_damaged_twice_is_not_trusted_any_more(clip: Path) -> None:
    service = FakeService(damaged=Counter({5: 9}))
    with pytest.raises(FileUnusable, match="other bytes of part 5 than were read, twice"):
        await send(service, clip)
    assert [request.url.path for request in service.to("storage.test")].count("/5") == 2
    assert service.requests[-1].method == "DELETE"


async def test_bytes_that_change_between_checksum_and_sending_are_summed_up_again(
    monkeypatch: pytest.MonkeyPatch, clip: Path
) -> None:
    wrong, right = b"\0\0\0\0", checksums.checksum_of
    answers = {2: [wrong]}
    monkeypatch.setattr(
        transfer,
        "checksum_of",
        lambda source, part, algorithm: (
            answers[part.part_number].pop() if answers.get(part.part_number) else right(source, part, algorithm)
        ),
    )
    service = FakeService()
    await send(service, clip)
    assert stored(service) == CONTENT


# -- small files --------------------------------------------------------------------------------------------


async def test_a_small_file_takes_one_call_one_put_and_one_call(clip: Path) -> None:
    service = FakeService(put_max_bytes=100)
    await send(service, clip)
    assert [request.method for request in service.requests] == ["POST", "PUT", "POST"]
    assert stored(service) == CONTENT


async def test_a_put_whose_answer_was_lost_is_found_at_storage(clip: Path) -> None:
    service = FakeService(put_max_bytes=100, lost=Counter({"PUT 1": 1}))
    _, told = await send(service, clip)
    assert stored(service) == CONTENT
    assert len(service.to("storage.test")) == 2
    assert told[-1] == 37


async def test_another_object_in_the_place_of_a_put_is_no_success(clip: Path) -> None:
    service = FakeService(put_max_bytes=100)
    service.on_request = lambda name: service.stored.update({1: b"other"}) if name == "PUT 1" else None
    with pytest.raises(StorageRefused, match="something else"):
        await send(service, clip)


# -- conflicts and limits -----------------------------------------------------------------------------------


async def test_a_request_that_is_in_flight_is_waited_for(clip: Path) -> None:
    service = FakeService()
    for call in ("initiate-upload", "complete-upload"):
        service.faults[f"POST /v1/{call}"] = [problem(409, "request-in-flight", retryable=True)] * 2
    await send(service, clip)
    assert len(service.asked("/initiate-upload")) == len(service.asked("/complete-upload")) == 3


@pytest.mark.parametrize(("status", "kind", "more"), [(409, "upload-aborted", {"retryable": False}), (409, "x", {})])
async def test_other_conflicts_are_final(clip: Path, status: int, kind: str, more: dict[str, bool]) -> None:
    service = FakeService()
    service.faults["POST /v1/complete-upload"] = [problem(status, kind, **more)]
    with pytest.raises(Refused) as caught:
        await send(service, clip)
    assert caught.value.kind == kind
    assert len(service.asked("/complete-upload")) == 1


async def test_a_quota_is_final_and_told_from_other_refusals(clip: Path) -> None:
    service = FakeService()
    service.faults["POST /v1/initiate-upload"] = [problem(413, "quota-exceeded", retryable=False)]
    with pytest.raises(QuotaExceeded):
        await send(service, clip)
    assert len(service.requests) == 1


async def test_a_file_that_changes_after_its_last_part_is_not_completed(clip: Path) -> None:
    service = FakeService()
    service.on_put = lambda number: os.utime(clip, (1, 1)) if number == 10 else None
    with pytest.raises(FileUnusable, match="changed"):
        await send(service, clip, parallel=1, checksum=None)
    assert not service.asked("/complete-upload")


async def test_a_name_that_is_no_text_is_sent_as_such(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    path.write_bytes(CONTENT)
    service = FakeService()
    await send(service, path)
    assert service.asked("/initiate-upload")[0]["filename"] == "caf\N{REPLACEMENT CHARACTER}.mp4"
