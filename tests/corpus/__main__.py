"""`make corpus`: odd media of many packages, and traps, through the real engine.

Every file is probed, planned, and the first task of each kind is run, each in a sandboxed child as in the service. It
has to end in success or in a reason that its owner can be told. The command prints what became of all of them, the
slowest and the largest, and ends with 1 where a file

- ends its child, or is ended by a limit of time or memory, or by an error that is none of a file's;
- makes anybody call the address, or open the pipe, that the traps refer to;
- takes longer than any file should, or more memory than admission takes its task to need (`examination.py`).

`ARGS="--only WORD"` takes the files whose name holds a word; `ARGS="--traps"` the traps alone, without a download.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.corpus import packages
from tests.corpus.examination import PASSED, Finding, examined
from tests.unit.transcode.traps import TRAPS, Bait, Trap, laid_out

_AT_ONCE = 2
_SHOWN = 8

Examination = Callable[[], Awaitable[Finding]]


def main() -> int:
    """Examines and tells; the exit code."""
    parser = argparse.ArgumentParser(
        prog="make corpus", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="WORD", help="files whose name holds a word")
    parser.add_argument("--traps", action="store_true", help="the traps alone")
    options = parser.parse_args()
    files = [] if options.traps else packages.fetched()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        findings, followed = asyncio.run(_examined(files, options.only, Path(folder)))
    _show(findings, time.monotonic() - began_s)
    for each in followed:
        print(each)
    return 1 if followed or any(finding.faults for finding in findings) else 0


async def _examined(files: Sequence[Path], only: str, folder: Path) -> tuple[list[Finding], list[str]]:
    """All findings, and who followed a reference."""
    async with laid_out(folder) as bait:
        work = [(name, each) for name, each in (*_traps(bait), *_shipped(files)) if only in name]
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(examination: Examination) -> Finding:
            async with slots:
                return await examination()

        running = [asyncio.create_task(one(examination)) for _, examination in work]
        findings = []
        for each in track(asyncio.as_completed(running), "examining", total=len(running), transient=True):
            findings.append(await each)  # noqa: PERF401 with the bar between
        followed = [f"somebody called {bait.address} {bait.calls} times"] if bait.calls else []
        if bait.is_opened():
            followed.append(f"somebody opened {bait.pipe}")
        return findings, followed


def _traps(bait: Bait) -> Iterator[tuple[str, Examination]]:
    def examination(trap: Trap) -> Examination:
        may_be = frozenset(reason.value for reason in trap.reasons) | ({PASSED} if trap.may_pass else set())

        async def examine() -> Finding:
            data = await asyncio.to_thread(trap.make, bait)
            return await examined(f"trap: {trap.name}", data, may_be.__contains__)

        return examine

    return ((f"trap: {trap.name}", examination(trap)) for trap in TRAPS)


def _shipped(files: Sequence[Path]) -> Iterator[tuple[str, Examination]]:
    def examination(name: str, path: Path) -> Examination:
        return lambda: examined(name, path.read_bytes())

    for path in files:
        name = f"{path.parent.name}/{path.name}"
        yield name, examination(name, path)


def _show(findings: Sequence[Finding], seconds: float) -> None:
    console = Console(width=None if Console().is_terminal else 150)
    verdicts = Table("verdict", "files", title=f"{len(findings):,} files in {seconds:,.0f} s")
    for verdict, count in Counter(finding.verdict for finding in findings).most_common():
        verdicts.add_row(verdict, f"{count:,}")
    console.print(verdicts)
    console.print(_table("the slowest", sorted(findings, key=lambda finding: -finding.seconds)[:_SHOWN]))
    console.print(_table("the largest", sorted(findings, key=lambda finding: -finding.peak_bytes)[:_SHOWN]))
    for finding in findings:
        for fault in finding.faults:
            console.print(f"{finding.name}: {finding.verdict}: {fault}", style="red", markup=False, highlight=False)


def _table(title: str, findings: Sequence[Finding]) -> Table:
    table = Table("file", "verdict", "s", "MiB", title=title)
    for finding in findings:
        table.add_row(finding.name, finding.verdict, f"{finding.seconds:.1f}", f"{finding.peak_bytes / (1 << 20):,.0f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
