"""What every benchmark does with its figures."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

OUT = Path(__file__).parent / "out"


@dataclass(frozen=True, slots=True)
class Ratio:
    """Two things measured in turns within one run.

    Attributes:
        name: what was compared.
        ours: the figure of each round.
        theirs: likewise, in the same order.
        unit: of the figures; more is better.
        aim: the ratio of medians, ours over theirs, that is to be reached.
    """

    name: str
    ours: Sequence[float]
    theirs: Sequence[float]
    unit: str
    aim: float

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.ours) / statistics.median(self.theirs)

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest ratio of any round."""
        rounds = [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        return min(rounds), max(rounds)

    @property
    def is_met(self) -> bool:
        """Whether the aim is reached."""
        return self.ratio >= self.aim


def publish(name: str, ratios: Sequence[Ratio]) -> int:
    """Prints the table and writes the file.

    Returns:
        The exit code: 0 when every aim is met, else 1.
    """
    table = Table(title=name)
    for heading in ("what", "ours", "theirs", "unit", "ratio", "spread", "aim", "met"):
        table.add_column(heading, justify="left" if heading in {"what", "unit"} else "right")
    for ratio in ratios:
        table.add_row(
            ratio.name,
            f"{statistics.median(ratio.ours):,.0f}",
            f"{statistics.median(ratio.theirs):,.0f}",
            ratio.unit,
            f"{ratio.ratio:.1f}",
            "{:.1f} to {:.1f}".format(*ratio.spread),
            f"≥ {ratio.aim:g}",
            "yes" if ratio.is_met else "NO",
        )
    Console().print(table)
    OUT.mkdir(exist_ok=True)
    rows = [{**asdict(ratio), "ratio": ratio.ratio, "spread": ratio.spread, "met": ratio.is_met} for ratio in ratios]
    (OUT / f"{name}.json").write_text(json.dumps(rows, indent=2) + "\n")
    return 0 if all(ratio.is_met for ratio in ratios) else 1
