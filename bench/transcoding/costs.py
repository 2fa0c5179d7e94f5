"""Ratios of which less is better: seconds."""

from dataclasses import dataclass

from bench.report import Ratio


@dataclass(frozen=True, slots=True)
class Cost(Ratio):
    """Two things measured in turns within one run, where less is better: the ratio is to be the aim or below."""

    @property
    def is_met(self) -> bool:
        """Whether the aim is kept, if there is one."""
        return self.aim is None or self.ratio <= self.aim

    def row(self) -> tuple[str, ...]:
        """The cells of the table."""
        # Not super(): slots make a new class of this one, which the method does not know of.
        return tuple(cell.replace("≥", "≤") for cell in Ratio.row(self))
