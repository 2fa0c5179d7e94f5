import asyncio
import io
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from millrace import Media, NetworkError
from millrace.batch import Options, Outcome, upload_each
from millrace.board import Board, PlainBoard
from millrace.slots import Slots
from tests.unit.client.fakes import HASTY, FakeService

OPTIONS = Options(None, parallel=4, checksum=None, state_dir=None, resume=True, wait=False)


@pytest.fixture
def board() -> Board:
    return PlainBoard(Console(file=io.StringIO()))


def files(folder: Path, count: int) -> dict[Path, int]:
    sizes = {folder / f"{number:04}.jpg": 4 for number in range(count)}
    for path in sizes:
        path.write_bytes(b"1234")
    return sizes


async def told(service: FakeService, sizes: dict[Path, int], board: Board, options: Options) -> dict[Path, Outcome]:
    outcomes: dict[Path, Outcome] = {}
    async with service.client() as client:
        await upload_each(client, sizes, options, board, outcomes.__setitem__)
    return outcomes


async def test_small_files_share_the_link_and_never_exceed_it(tmp_path: Path, board: Board) -> None:
    service = FakeService(put_takes_s=0.01)
    sizes = files(tmp_path, 15)
    outcomes = await told(service, sizes, board, OPTIONS)
    assert [*outcomes] == [*sizes]
    assert all(isinstance(outcome, Media) for outcome in outcomes.values())
    assert service.most_in_flight == 4


async def test_of_hundreds_of_files_few_are_open_at_once(tmp_path: Path, board: Board) -> None:
    service, most = FakeService(put_takes_s=0.0), 0

    def count(_: str) -> None:
        nonlocal most
        most = max(most, len(asyncio.all_tasks()))

    service.on_request = count
    outcomes = await told(service, files(tmp_path, 300), board, replace(OPTIONS, parallel=8))
    assert len(outcomes) == 300
    assert most < 100


async def test_one_that_fails_stops_no_other_and_order_is_kept(tmp_path: Path, board: Board) -> None:
    sizes = files(tmp_path, 5)
    paths = [*sizes]
    paths[1].unlink()
    service = FakeService()
    service.faults["PUT 1"] = [httpx.Response(404)]
    outcomes = await told(service, sizes, board, OPTIONS)
    assert [*outcomes] == paths
    assert sum(isinstance(outcome, Media) for outcome in outcomes.values()) == 3


async def test_a_command_given_again_does_what_is_left_and_nothing_twice(tmp_path: Path, board: Board) -> None:
    service, sizes = FakeService(statuses=None), files(tmp_path, 4)
    options = replace(OPTIONS, state_dir=tmp_path / "state", parallel=1)
    service.faults["POST /v1/initiate-upload"] = [httpx.ConnectError("no route")] * HASTY.attempts
    first = await told(service, sizes, board, options)
    assert [type(outcome) for outcome in first.values()] == [NetworkError, Media, Media, Media]
    second = await told(service, sizes, board, options)
    assert all(isinstance(outcome, Media) for outcome in second.values())
    assert len(service.uploads) == 4
    assert list_of(tmp_path / "state") == []
    await told(service, sizes, board, options)
    assert len(service.uploads) == 8  # what came to its end is another wish when it is said again


async def test_what_no_other_run_can_mend_keeps_nothing(tmp_path: Path, board: Board) -> None:
    service, sizes = FakeService(statuses=None), files(tmp_path, 2)
    options = replace(OPTIONS, state_dir=tmp_path / "state", parallel=1)
    service.faults["PUT 1"] = [httpx.Response(404)]
    await told(service, sizes, board, options)
    assert list_of(tmp_path / "state") == []


def list_of(folder: Path) -> list[Path]:
    return [*folder.iterdir()]


async def test_what_breaks_the_telling_ends_everything_as_itself(tmp_path: Path, board: Board) -> None:
    def no_reader(path: Path, outcome: Outcome) -> None:
        raise BrokenPipeError

    async with FakeService().client() as client:
        with pytest.raises(BrokenPipeError):
            await upload_each(client, files(tmp_path, 100), OPTIONS, board, no_reader)


async def test_a_large_file_has_all_slots_and_everybody_a_turn() -> None:
    slots, log = Slots(3), []

    async def take(name: str, *, all_of_them: bool) -> None:
        async with slots.taken(all_of_them=all_of_them):
            log.append(f"+{name}")
            await asyncio.sleep(0.01)
            log.append(f"-{name}")

    async with asyncio.TaskGroup() as group:
        for name in ("a", "b", "LARGE", "c", "LARGER", "d"):
            group.create_task(take(name, all_of_them=name.isupper()))
    assert log[:2] == ["+a", "+b"]
    assert log[4:] == ["+LARGE", "-LARGE", "+c", "-c", "+LARGER", "-LARGER", "+d", "-d"]


async def test_whoever_stops_waiting_leaves_nothing_taken() -> None:
    slots = Slots(2)
    async with slots.taken(all_of_them=False):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01), slots.taken(all_of_them=True):
                    pass
    async with asyncio.timeout(1), slots.taken(all_of_them=True):
        pass
