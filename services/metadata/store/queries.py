"""Reads named SQL from the files in `sql/`.

A file holds queries, each under a line `-- name: some_name`; other comment lines are for people and are not sent.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

DIRECTORY: Final = Path(__file__).parent.parent / "sql"

_NAME: Final = "-- name: "


def load(noun: str) -> Mapping[str, str]:
    """The queries of `sql/<noun>.sql` by name.

    Raises:
        ValueError: a name comes twice, or a query has none.
    """
    return parse((DIRECTORY / f"{noun}.sql").read_text())


def parse(text: str) -> Mapping[str, str]:
    """Queries by name; see the module.

    Raises:
        ValueError: a name comes twice, or a query has none.
    """
    queries: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in text.splitlines():
        if line.startswith(_NAME):
            name = line.removeprefix(_NAME).strip()
            if name in queries:
                raise ValueError(f"two queries are named {name}")
            lines = queries[name] = []
        elif line.strip() and not line.lstrip().startswith("--"):
            if lines is None:
                raise ValueError(f"no name before: {line}")
            lines.append(line)
    return MappingProxyType({name: "\n".join(lines).rstrip(";") for name, lines in queries.items()})
