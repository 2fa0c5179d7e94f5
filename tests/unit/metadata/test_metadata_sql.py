"""Rules that every query keeps, whatever it does."""

import re

import pytest

from services.metadata.store import queries

TABLES = ("media", "uploads", "quotas", "tasks", "renditions", "thumbnails", "outbox", "requests")
ALL = {
    f"{path.stem}.{name}": sql
    for path in queries.DIRECTORY.glob("*.sql")
    for name, sql in queries.load(path.stem).items()
}
ACROSS_SHARDS = {
    "media.overdue_media",
    "uploads.due_sweeps",
    "requests.expired_shards",
    "tasks.expired_leases",
    "outbox.due_shards",
    "outbox.overdue",
    "outbox.settled_before",
}
"""They look for work; whatever they find is then locked and changed shard by shard."""


def touches_a_table(sql: str) -> bool:
    return re.search(rf"\b(FROM|JOIN|INTO|UPDATE)\s+({'|'.join(TABLES)})\b", sql) is not None


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_query_on_a_table_names_its_shard(name: str) -> None:
    sql = ALL[name]
    if not touches_a_table(sql):
        assert name in {"outbox.announce", "reconciler.try_lock", "reconciler.unlock"}
    elif name in ACROSS_SHARDS:
        assert sql.startswith("SELECT ")
        assert "shard" in sql
        assert "FOR UPDATE" not in sql
        assert "LIMIT" in sql
    elif sql.startswith("INSERT"):
        assert re.search(r"\(\s*shard,", sql)
        assert "VALUES ($1," in sql
    else:
        assert re.search(r"WHERE (\w\.)?shard = \$1\b", sql)


@pytest.mark.parametrize("name", sorted(ALL))
def test_no_query_asks_for_a_volatile_time_or_for_everything(name: str) -> None:
    sql = ALL[name].lower()
    assert not re.search(r"clock_timestamp|statement_timestamp|timeofday|random\(|gen_random_uuid|nextval", sql)
    assert "*" not in sql.replace("count(*)", "").replace("interval * 2", "")


def test_conflicts_and_joins_stay_within_a_shard() -> None:
    for name, sql in ALL.items():
        for target in re.findall(r"ON CONFLICT \(([^)]*)\)", sql):
            assert target.startswith("shard,"), name
        for condition in re.findall(r"JOIN \w+ \w+ ON ([^\n]*)", sql):
            assert ".shard = " in condition, name


def test_queries_are_read_by_name_without_their_comments() -> None:
    read = queries.parse("-- a file\n\n-- name: one\n-- what for\nSELECT 1;\n\n-- name: two\nSELECT\n    2;\n")
    assert dict(read) == {"one": "SELECT 1", "two": "SELECT\n    2"}


@pytest.mark.parametrize("text", ["SELECT 1;", "-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;"])
def test_a_query_without_a_name_of_its_own_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="name"):
        queries.parse(text)
