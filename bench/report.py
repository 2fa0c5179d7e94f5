"""What every benchmark does with its figures."""

import json
import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

OUT = Path(__file__).parent / "out"

_COLUMNS = ("what", "ours", "theirs", "unit", "ratio", "spread", "aim", "met")


@dataclass(frozen=True, slots=True)
class Ratio:
    """Two things measured in turns within one run.

    Attributes:
        name: what was compared.
        ours: the figure of each round.
        theirs: likewise, in the same order.
        unit: of the figures; more is better.
        aim: the ratio of medians, ours over theirs, that is to be reached; None where it is only told.
    """

    name: str
    ours: Sequence[float]
    theirs: Sequence[float]
    unit: str
    aim: float | None = None

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return _over(statistics.median(self.ours), statistics.median(self.theirs))

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest ratio of any round."""
        rounds = [_over(ours, theirs) for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        return min(rounds), max(rounds)

    @property
    def is_met(self) -> bool:
        """Whether the aim is reached, if there is one."""
        return self.aim is None or self.ratio >= self.aim

    def row(self) -> tuple[str, ...]:
        """The cells of the table."""
        return (
            self.name,
            figure(statistics.median(self.ours)),
            figure(statistics.median(self.theirs)),
            self.unit,
            f"{self.ratio:.2f}" if self.ratio < 10 else f"{self.ratio:.0f}",
            "{:.2f} to {:.2f}".format(*self.spread) if self.ratio < 10 else "{:.0f} to {:.0f}".format(*self.spread),
            "" if self.aim is None else f"≥ {self.aim:g}",
            _verdict(self.aim, self.is_met),
        )

    def document(self) -> dict[str, Any]:
        """For the file."""
        found = {"ratio": self.ratio, "spread": self.spread}
        # JSON knows no NaN.
        known = {name: value for name, value in found.items() if "nan" not in str(value)}
        return {**asdict(self), **known, "met": self.is_met}


@dataclass(frozen=True, slots=True)
class Figure:
    """Something measured on our side alone.

    Attributes:
        name: what it is.
        value: how much.
        unit: of the value.
        aim: what is to hold, in words; None where the value is only told.
        is_met: whether it holds.
    """

    name: str
    value: float
    unit: str
    aim: str | None = None
    is_met: bool = True

    def row(self) -> tuple[str, ...]:
        """The cells of the table."""
        return (
            self.name,
            figure(self.value),
            "",
            self.unit,
            "",
            "",
            self.aim or "",
            _verdict(self.aim, self.is_met),
        )

    def document(self) -> dict[str, Any]:
        """For the file."""
        return {**asdict(self), "met": self.is_met}


Result: TypeAlias = Ratio | Figure


def publish(name: str, results: Sequence[Result], details: Mapping[str, Any] | None = None) -> int:
    """Prints the table and writes the file.

    Args:
        name: of the benchmark and of its file.
        results: the rows.
        details: what explains the figures; it goes into the file alone.

    Returns:
        The exit code: 0 when every aim is met, else 1.
    """
    table = Table(title=name)
    for heading in _COLUMNS:
        table.add_column(heading, justify="left" if heading in {"what", "unit", "aim"} else "right")
    for result in results:
        table.add_row(*result.row())
    # As wide as it needs to be where nobody looks on, so that a log holds whole words.
    Console(width=None if Console().is_terminal else 150).print(table)
    OUT.mkdir(exist_ok=True)
    document = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()},
        "results": [result.document() for result in results],
        "details": details or {},
    }
    (OUT / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    return 0 if all(result.is_met for result in results) else 1


def figure(value: float) -> str:
    """A value to three digits, or to the last one before the point."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _over(ours: float, theirs: float) -> float:
    """A ratio; not a number where the other side did nothing in its time, which was too short then."""
    return ours / theirs if theirs else math.nan


def _verdict(aim: object, is_met: bool) -> str:
    if aim is None:
        return ""
    return "yes" if is_met else "NO"
