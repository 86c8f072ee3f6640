"""Sums over requests that can be added to one another: of a day, of a window, of several of them."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field
from sqlalchemy import BigInteger, ColumnElement, Connection, case, func, literal_column, select

from llmwise.storage.ledger import window_between
from llmwise.storage.lone import every_attempt
from llmwise.storage.tables import requests

DAY_MS = 86_400_000
TALLIED = 9
FAILED = ("provider_error", "rejected", "cut", "timeout")
"""The outcomes of an attempt that count as its error: not `client_gone`, which is the caller's doing."""


class Sums(Struct):
    """`cells`: (day, task type) to the fields of `Tally`; `models`: (model, provider) to those of `ModelUsage`, with
    the sum and the number of latencies in place of their mean; `latency` and `ttft`: milliseconds to how often. Lists
    of pairs, since JSON has no other keys than text."""

    cells: list[tuple[int, str | None, list[int]]] = field(default_factory=list)
    models: list[tuple[str, str, list[int]]] = field(default_factory=list)
    latency: list[tuple[int, int]] = field(default_factory=list)
    ttft: list[tuple[int, int]] = field(default_factory=list)

    def add(self, other: "Sums") -> None:
        self.cells = _merged(self.cells, other.cells)
        self.models = _merged(self.models, other.models)
        self.latency = _counted(self.latency, other.latency)
        self.ttft = _counted(self.ttft, other.ttft)


def _merged(one: list[Any], other: list[Any]) -> list[Any]:
    found: dict[tuple[Any, Any], list[int]] = {(a, b): values for a, b, values in one}
    for a, b, values in other:
        there = found.get((a, b))
        found[a, b] = list(values) if there is None else [x + y for x, y in zip(there, values, strict=True)]
    return [(a, b, values) for (a, b), values in found.items()]


def _counted(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found = dict(one)
    for value, count in other:
        found[value] = found.get(value, 0) + count
    return list(found.items())


def between(connection: Connection, key_id: str | None, since_ms: int, until_ms: int | None) -> Sums:
    """Over the requests of a key, or of everybody, from `since_ms` on and before `until_ms`."""
    found = _sums(connection, key_id, since_ms, until_ms, by_key=False)
    return found.get("", Sums())


def by_key(connection: Connection, since_ms: int, until_ms: int) -> dict[str, Sums]:
    """The same, of each key that has any."""
    return _sums(connection, None, since_ms, until_ms, by_key=True)


def _sum(column: ColumnElement[Any]) -> ColumnElement[int]:
    return func.coalesce(func.sum(column), 0)


def _count_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


_TALLY = (
    func.count(),
    _count_if(requests.c.status >= 400),
    _sum(requests.c.input_tokens),
    _sum(requests.c.cache_read_tokens),
    _sum(requests.c.cache_write_tokens),
    _sum(requests.c.output_tokens),
    _sum(requests.c.reasoning_tokens),
    _sum(requests.c.cost_nanousd),
    _count_if(requests.c.cost_nanousd.is_(None)),
)
"""The fields of `Tally`, in their order."""


def _sums(
    connection: Connection, key_id: str | None, since_ms: int, until_ms: int | None, *, by_key: bool
) -> dict[str, Sums]:
    r, a = requests.c, every_attempt.c
    window = window_between(r.id, r.key_id, r.created_at_ms, key_id, since_ms, until_ms)
    found: dict[str, Sums] = {}

    def of(keys: Iterable[str]) -> Sums:
        return found.setdefault(next(iter(keys), ""), Sums())

    groups: list[ColumnElement[Any]] = [r.key_id] if by_key else []
    keys = len(groups)
    # Literal: two parameters, one here and one in GROUP BY, would be two expressions to PostgreSQL.
    cell = (*groups, r.created_at_ms // literal_column(str(DAY_MS), BigInteger), r.task_type)
    for row in connection.execute(select(*cell, *_TALLY).where(*window).group_by(*cell)):
        # int(): PostgreSQL adds 64-bit integers up to a decimal.
        of(row[:keys]).cells.append((int(row[keys]), row[keys + 1], [*map(int, row[keys + 2 :])]))
    for name in ("latency", "ttft"):
        column = r[f"{name}_ms"]
        histogram = select(*groups, column, func.count()).where(*window, column.is_not(None), r.status < 400)
        for row in connection.execute(histogram.group_by(*groups, column)):
            getattr(of(row[:keys]), name).append((row[keys], row[keys + 1]))
    done = case((a.outcome == "complete", a.latency_ms))
    groups = [a.key_id] if by_key else []
    model = (*groups, a.model, a.provider)
    columns = (
        func.count(),
        _count_if(a.outcome.in_(FAILED)),
        _sum(a.input_tokens),
        _sum(a.cache_read_tokens),
        _sum(a.cache_write_tokens),
        _sum(a.output_tokens),
        _sum(a.reasoning_tokens),
        _sum(a.cost_nanousd),
        _count_if(a.cost_nanousd.is_(None)),
        _sum(done),
        func.count(done),
    )
    window = window_between(a.request_id, a.key_id, a.created_at_ms, key_id, since_ms, until_ms)
    rows = connection.execute(select(*model, *columns).where(*window, a.outcome != "skipped").group_by(*model))
    for row in rows:
        of(row[:keys]).models.append((row[keys], row[keys + 1], [*map(int, row[keys + 2 :])]))
    return found
