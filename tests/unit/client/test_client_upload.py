import os
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from millrace import (
    FileUnusable,
    Media,
    NetworkError,
    Refused,
    ServiceFault,
    StorageRefused,
    UnexpectedAnswer,
    upload,
)
from tests.unit.client.fakes import HASTY, FakeService, problem, s3_error

CONTENT = b"0123456789abcdefghijklmnopqrstuvwxyz!"  # ten parts of four bytes, the last of one


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(CONTENT)
    return path


async def send(service: FakeService, clip: Path, *, parallel: int = 4) -> tuple[Media, list[int]]:
    told: list[int] = []
    async with service.client() as client:
        media = await upload(client, clip, parallel=parallel, on_progress=lambda sent, _: told.append(sent))
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


async def test_windows_beyond_the_first_are_signed_once_each(clip: Path) -> None:
    service = FakeService(window=3)
    await send(service, clip)
    assert service.signed == [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10]]


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


async def test_expired_urls_are_signed_afresh_and_their_whole_window_with_them(clip: Path) -> None:
    service = FakeService()
    service.on_put = lambda number: service.refused_signatures.add(1) if number >= 3 else None
    await send(service, clip, parallel=1)
    assert stored(service) == CONTENT
    assert service.signed[1:] == [[3, 4, 5, 6, 7, 8, 9, 10]]


async def test_urls_that_are_about_to_expire_are_not_used(clip: Path) -> None:
    service = FakeService(url_ttl=timedelta(seconds=5))
    await send(service, clip, parallel=1)
    assert {int(request.url.params["signature"]) for request in service.to("storage.test")} == set(range(2, 12))


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
