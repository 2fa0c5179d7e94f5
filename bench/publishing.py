"""`make bench-publishing`: from `complete` to `published`, with 1, 2, 4 and 8 workers of one core each.

A machine has the cores it has. So for each number of workers the video is planned for that fleet and published once on
a whole stack with as many workers as there are cores, at most; what each task took of a core, and how long it waited
without one, is in the trace. What more workers would make of the same tasks is then computed (`publishing_schedule`),
with what comes before and after the tasks as it was measured.

Whether that is true is seen where it can be: for as many workers as there are cores, the video is published once more,
with all workers' processes bound to so many cores, and the time measured is set against the one computed before.

Next to each time stands where it goes: what comes before the tasks, the tasks, what comes after; whether the tasks end
when all cores have done their part, or wait for one that is longer than the others' share.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.publishing_run import Run, run
from bench.publishing_schedule import Placed, idle_share, makespan_s, scheduled
from bench.report import Figure, figure, publish
from bench.transcoding import footage
from deploy.demo import make_samples

FLEETS = (1, 2, 4, 8)
_ERROR_PERCENT = 15
"""How far the model may be from what is measured. What others do on the machine counts in full."""
_EVEN = 1.1
"""Tasks that end within a tenth of the time that all cores need together are evenly spread."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What so many workers would make of the tasks that were measured.

    Attributes:
        costed: the run that the costs are of.
        placed: the schedule.
        before_s: until the first task begins.
        tasks_s: until the last one ends.
        after_s: from then until published.
        idle: the part of all cores' time without work while there are tasks, 0 to 1.
        critical: what the next improvement should shorten.
    """

    costed: Run
    placed: Sequence[Placed]
    before_s: float
    tasks_s: float
    after_s: float
    idle: float
    critical: str

    @property
    def wall_s(self) -> float:
        """From `complete` to `published`."""
        return self.before_s + self.tasks_s + self.after_s


def predicted(costed: Run, workers: int) -> Prediction:
    """From a run's costs."""
    way = costed.way
    placed = scheduled(way.tasks, cores=workers, slots={"video": workers, "audio": workers})
    before_s = sum(stretch.seconds for stretch in way.before)
    after_s = sum(stretch.seconds for stretch in way.after)
    tasks_s = makespan_s(placed)
    longest = max(way.tasks, key=lambda task: task.cpu_s + task.wait_s)
    even_s = sum(task.cpu_s for task in way.tasks) / workers
    if before_s + after_s > tasks_s:
        critical = max((*way.before, *way.after), key=lambda stretch: stretch.seconds).name
    elif tasks_s <= _EVEN * even_s:
        critical = "work: all cores are busy"
    elif longest.cpu_s + longest.wait_s >= tasks_s / _EVEN:
        critical = f"the longest task: {longest.label}"
    else:
        critical = f"the last task: {placed[-1].label}"
    return Prediction(costed, placed, before_s, tasks_s, after_s, idle_share(way.tasks, placed, workers), critical)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-publishing", description=__doc__)
    parser.add_argument("--source", type=Path, help="a video; else 60 s of the footage of bench-transcode")
    parser.add_argument("--fleets", default=",".join(map(str, FLEETS)), help="numbers of workers")
    parser.add_argument("--quick", action="store_true", help="12 s of the sample; plans for long videos differ")
    options = parser.parse_args()
    source = options.source or (make_samples()[0] if options.quick else footage.made(footage.NAMES[:1])[0].path)
    return measure(source, [int(one) for one in options.fleets.split(",")])


def measure(source: Path, fleets: Sequence[int]) -> int:
    """Measures, prints, writes; the exit code."""
    cores = os.cpu_count() or 1
    predictions: dict[int, Prediction] = {}
    checks: dict[int, Run] = {}
    for workers in fleets:
        _say(f"planned for {workers}, costs")
        predictions[workers] = predicted(run(source, fleet=workers, workers=min(workers, cores)), workers)
        if workers <= cores:
            _say(f"planned for {workers}, measured")
            checks[workers] = run(source, fleet=workers, workers=workers)
    _show(source, predictions)
    results = [Figure(f"published, {_workers(n)}, computed", one.wall_s, "s") for n, one in predictions.items()]
    for workers, check in checks.items():
        results += _compared(workers, predictions[workers], check)
    details = {
        "source": source.name,
        "predictions": {n: asdict(one) for n, one in predictions.items()},
        "checks": {n: asdict(one) for n, one in checks.items()},
    }
    return publish("publishing", results, details)


def _compared(workers: int, prediction: Prediction, check: Run) -> list[Figure]:
    name, measured_s = _workers(workers), check.way.wall_s
    error = (prediction.wall_s / measured_s - 1) * 100
    return [
        Figure(f"published, {name}, measured", measured_s, "s"),
        Figure(f"spent by others meanwhile, {name}", check.others_cpu_s, "CPU s"),
        Figure(f"error of the model, {name}", error, "%", f"within ±{_ERROR_PERCENT} %", abs(error) <= _ERROR_PERCENT),
    ]


def _show(source: Path, predictions: dict[int, Prediction]) -> None:
    """Where the time goes, a column for each number of workers."""
    table = Table(title=f"from complete to published, {source.name}")
    table.add_column("seconds")
    for workers in predictions:
        table.add_column(_workers(workers), justify="right")
    ways = [one.costed.way for one in predictions.values()]
    rows = list(predictions.values())
    for stretches in zip(*(way.before for way in ways), strict=True):
        table.add_row(stretches[0].name, *(figure(one.seconds) for one in stretches))
    table.add_row("tasks", *(figure(one.tasks_s) for one in rows), style="bold")
    table.add_row("  how many", *(str(len(one.placed)) for one in rows))
    table.add_row("  CPU s of all", *(figure(sum(task.cpu_s for task in way.tasks)) for way in ways))
    table.add_row("  the longest", *(figure(max(task.cpu_s + task.wait_s for task in way.tasks)) for way in ways))
    table.add_row("  cores idle", *(f"{one.idle:.0%}" for one in rows))
    for stretches in zip(*(way.after for way in ways), strict=True):
        table.add_row(stretches[0].name, *(figure(one.seconds) for one in stretches))
    table.add_row("in all", *(figure(one.wall_s) for one in rows), style="bold")
    table.add_row("critical", *(one.critical for one in rows))
    Console(width=None if Console().is_terminal else 150).print(table)


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
