"""`make bench-upload`: everything about uploads, against what people use instead, in one run on one machine.

`ARGS="--only sign,create,throughput,burst"` runs some of it, `--quick` runs it briefly, for trying.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from bench import burst, create, sign, throughput
from bench.place import stack
from bench.report import Result, publish

PARTS = ("sign", "create", "throughput", "burst")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-upload", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="few and short rounds; the figures mean little")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return run(wanted, quick=options.quick)


def run(wanted: Sequence[str], *, quick: bool) -> int:
    """Measures, prints, writes; the exit code."""
    results: list[Result] = []
    details: dict[str, Any] = {}
    if "sign" in wanted:
        results.append(sign.measured(2 if quick else sign.ROUNDS))
    if set(wanted) - {"sign"}:
        with stack() as running:
            if "create" in wanted:
                effort = create.Effort(1, 2.0, 0.5) if quick else create.Effort(3, 5.0, 2.0)
                ratios, costs = create.measured(running, effort)
                results += ratios
                details |= costs
            if "throughput" in wanted:
                sending = throughput.Effort(1, 128 << 20) if quick else throughput.Effort(3, 1 << 30)
                sent, costs = throughput.measured(running, sending)
                results += sent
                details |= costs
            if "burst" in wanted:
                crowd = burst.Effort(2_000, 2.0) if quick else burst.Effort(50_000, 10.0)
                came, costs = burst.measured(running, crowd)
                results += came
                details |= costs
    return publish("upload", results, details)


if __name__ == "__main__":
    sys.exit(main())
