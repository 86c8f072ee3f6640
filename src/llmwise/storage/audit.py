"""What was spent elsewhere, beside what went through the gateway: rows to import, and sums to report.

Importing is idempotent. A row's id says which thing it is about (a request, a bucket of a provider's usage), `content`
is a hash of what it says: the same row again changes nothing, another version of it takes the place of the one before.
Fields of the structs are the columns of their tables, in order.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import astuple
from sqlalchemy import BigInteger, Connection, Select, Table, case, delete, func, literal, literal_column, select

from llmwise.storage import postgres
from llmwise.storage.tables import attempts, imported_requests, imported_usage, imports, requests

DAY_MS = 86_400_000
HALF_BITS = 32
END_OF_TIME_MS = 4_102_444_800_000
"""The year 2100."""

UsageKind: TypeAlias = Literal["tokens", "cost"]
Pricer: TypeAlias = Literal["export", "catalog"]
"""Who said what it cost: the export itself, or our catalog from the tokens."""


class ImportedUsage(Struct, frozen=True, gc=False):
    """A bucket of a provider's own report. `kind`: what was used, or what was billed. `cut` says how the report was
    cut up (width of the bucket, what it was grouped by): two cuts of one day say the same thing twice. `requests` is
    `None` where the report does not count them, `model` where it does not name one."""

    id: str
    content: int
    source: str
    kind: UsageKind
    cut: str
    starts_at_ms: int
    ends_at_ms: int
    imported_at_ms: int
    model: str | None
    requests: int | None
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    cost_nanousd: int | None
    priced_by: Pricer | None


class ImportedRequest(Struct, frozen=True, gc=False):
    """One request from somebody's log, without its texts: `task_type`, `confidence` and `difficulty` are what our
    classifier made of the prompt, `None` where there was none. `needs` are words of `Needs` ("tools vision")."""

    id: str
    content: int
    source: str
    external_id: str | None
    created_at_ms: int
    model: str | None
    provider: str | None
    failed: bool
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    cost_nanousd: int | None
    priced_by: Pricer | None
    latency_ms: int | None
    ttft_ms: int | None
    task_type: str | None
    confidence: float | None
    difficulty: float | None
    needs: str | None
    conversation_id: str | None


class ImportedFile(Struct, frozen=True):
    """A file that was read to its end. `digest` is the SHA-256 of its bytes, in hex."""

    digest: str
    name: str
    format: str
    imported_at_ms: int
    records: int
    rejected: int


class Added(Struct, frozen=True):
    """What became of the rows: `replaced` were there with other content, `unchanged` with the same."""

    new: int = 0
    replaced: int = 0
    unchanged: int = 0

    def __add__(self, other: "Added") -> "Added":
        return Added(self.new + other.new, self.replaced + other.replaced, self.unchanged + other.unchanged)


class Cell(Struct, frozen=True):
    """Sums over one source, UTC day (since 1970), model and task type. `requests` is `None` where the source does not
    count them. `unpriced` rows have no known cost, which is not free; `listed_nanousd` is that part of the cost which
    the catalog's prices gave, not the export."""

    source: str
    kind: str
    cut: str
    day: int
    model: str | None
    provider: str | None
    task_type: str | None
    requests: int | None
    failed: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    cost_nanousd: int
    listed_nanousd: int
    unpriced: int
    imported_at_ms: int = 0


class Timing(Struct, frozen=True):
    """So many requests took so long: one column of a histogram. `first` is the time to the first token."""

    source: str
    model: str | None
    first: bool
    ms: int
    count: int


class Sampled(Struct, frozen=True):
    """A request as another policy would see it. `prompt` only where the gateway kept it."""

    source: str
    model: str | None
    created_at_ms: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    task_type: str | None
    confidence: float | None
    difficulty: float | None
    needs: str | None
    conversation: str
    prompt: str | None


class Everything(Struct, frozen=True):
    """What a report is made of, as it was at one moment. `sample` is of `sampled_of` requests."""

    cells: tuple[Cell, ...]
    timings: tuple[Timing, ...]
    sampled_of: int
    sample: tuple[Sampled, ...]


def everything(connection: Connection, since_ms: int, until_ms: int, most_sampled: int) -> Everything:
    """All of it from `since_ms` until before `until_ms`."""
    total, sampled = sample(connection, since_ms, until_ms, most_sampled)
    return Everything(cells(connection, since_ms, until_ms), timings(connection, since_ms, until_ms), total, sampled)


def add(connection: Connection, rows: Sequence[ImportedUsage] | Sequence[ImportedRequest]) -> Added:
    """Add or replace, all or nothing. Of several versions among `rows` the last counts. A version of a request without
    a task type does not replace one that has it: the same log once with its prompts and once without."""
    if not rows:
        return Added()
    table = imported_usage if isinstance(rows[0], ImportedUsage) else imported_requests
    task = table.c.task_type if table is imported_requests else literal(None)
    last = {row.id: row for row in rows}
    found = connection.execute(select(table.c.id, table.c.content, task).where(table.c.id.in_(list(last)))).all()
    changed = {
        id for id, content, task_type in found
        if last[id].content != content and not (task_type is not None and _untyped(last[id]))
    }  # fmt: skip
    if changed:
        connection.execute(delete(table).where(table.c.id.in_(changed)))
    kept = {id for id, _, _ in found} - changed
    _insert(connection, table, [astuple(row) for id, row in last.items() if id not in kept])
    return Added(len(last) - len(found), len(changed), len(rows) - len(last) + len(kept))


def _untyped(row: ImportedUsage | ImportedRequest) -> bool:
    return isinstance(row, ImportedRequest) and row.task_type is None


def file(connection: Connection, digest: str) -> ImportedFile | None:
    """The file with this digest, if it was imported before."""
    row = connection.execute(select(imports).where(imports.c.digest == digest)).one_or_none()
    return None if row is None else ImportedFile(*row)


def files(connection: Connection) -> tuple[ImportedFile, ...]:
    """All files that were imported, newest first."""
    newest = (imports.c.imported_at_ms.desc(), imports.c.name)
    return tuple(ImportedFile(*row) for row in connection.execute(select(imports).order_by(*newest)))


def add_file(connection: Connection, read: ImportedFile) -> None:
    connection.execute(delete(imports).where(imports.c.digest == read.digest))
    _insert(connection, imports, [astuple(read)])


def remove(connection: Connection, source: str) -> int:
    """Forget what was imported of a source, and its files, which are then read when they come again; how many rows."""
    connection.execute(delete(imports).where(imports.c.format.startswith(source, autoescape=True)))
    gone = [
        connection.execute(delete(table).where(table.c.source == source))
        for table in (imported_requests, imported_usage)
    ]
    return sum(one.rowcount for one in gone)


def cells(connection: Connection, since_ms: int, until_ms: int) -> tuple[Cell, ...]:
    """Everything from `since_ms` until before `until_ms`, live and imported."""
    return (
        *_live(connection, since_ms, until_ms),
        *_logged(connection, since_ms, until_ms),
        *_reported(connection, since_ms, until_ms),
    )


def timings(connection: Connection, since_ms: int, until_ms: int) -> tuple[Timing, ...]:
    """Of requests that did not fail: a fast refusal is not a fast answer."""
    r, i = requests.c, imported_requests.c
    found: list[Timing] = []
    for first, column in ((False, r.latency_ms), (True, r.ttft_ms)):
        live = select(r.model, column, func.count()).where(*_within(r.created_at_ms, since_ms, until_ms))
        live = live.where(column.is_not(None), r.status < 400).group_by(r.model, column)
        found += [Timing("gateway", model, first, ms, n) for model, ms, n in connection.execute(live)]
    for first, column in ((False, i.latency_ms), (True, i.ttft_ms)):
        logged = select(i.source, i.model, column, func.count()).where(*_within(i.created_at_ms, since_ms, until_ms))
        logged = logged.where(column.is_not(None), i.failed.is_(False), _not_live()).group_by(i.source, i.model, column)
        found += [Timing(source, model, first, ms, n) for source, model, ms, n in connection.execute(logged)]
    return tuple(found)


def sample(connection: Connection, since_ms: int, until_ms: int, most: int) -> tuple[int, tuple[Sampled, ...]]:
    """How many requests there are that succeeded, and about `most` of them, the same ones each time: every k-th by its
    hash or its millisecond, both of which know nothing of what was asked."""
    r, i = requests.c, imported_requests.c
    live = [*_within(r.created_at_ms, since_ms, until_ms), r.status < 400, r.mode == "chat", r.output_tokens > 0]
    logged = [*_within(i.created_at_ms, since_ms, until_ms), i.failed.is_(False), _not_live()]
    total = 0
    for table, where in ((requests, live), (imported_requests, logged)):
        total += connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()
    step = max(-(-total // most), 1)
    picked = select(
        literal("gateway"), r.model, r.created_at_ms, r.input_tokens, r.cache_read_tokens, r.cache_write_tokens,
        r.output_tokens, r.task_type, r.confidence, literal(None), literal(None),
        func.coalesce(r.conversation_id, r.id), r.prompt,
    ).where(*live, r.created_at_ms % step == 0).order_by(r.id).limit(most)  # fmt: skip
    found = [Sampled(*row) for row in connection.execute(picked)]
    picked = select(
        i.source, i.model, i.created_at_ms, i.input_tokens, i.cache_read_tokens, i.cache_write_tokens,
        i.output_tokens, i.task_type, i.confidence, i.difficulty, i.needs,
        func.coalesce(i.conversation_id, i.id), literal(None),
    ).where(*logged, i.content % step == 0).order_by(i.id).limit(most)  # fmt: skip
    found += [Sampled(*row) for row in connection.execute(picked)]
    return total, tuple(found)


def _insert(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Tuples to the driver: Core's insert would cost three times as much a row (`ledger`)."""
    if not rows:
        return
    cursor = connection.connection.cursor()
    try:
        if connection.dialect.name == "postgresql":
            postgres.copy(cursor, table, list(rows))
        else:
            names, marks = ", ".join(table.c.keys()), ", ".join("?" * len(table.c))
            cursor.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", rows)
    finally:
        cursor.close()


def _within(at: Any, since_ms: int, until_ms: int) -> list[Any]:
    return [at >= since_ms, at < until_ms]


def _day(at: Any) -> Any:
    return at // literal_column(str(DAY_MS), BigInteger)  # literal: see `usage`


def _not_live() -> Any:
    """A log of the gateway's own requests says nothing that the gateway does not know."""
    return ~select(requests.c.id).where(requests.c.id == imported_requests.c.external_id).exists()


SUMMED = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "cost_nanousd")


def _sums(table: Any, *more: Any) -> tuple[Any, ...]:
    """Of `SUMMED` and `more`, each in two halves, since SQLite fails where a sum of 64-bit integers is none."""
    halves: list[Any] = []
    for column in (*(table.c[name] for name in SUMMED), *more):
        high = column.op(">>")(literal_column(str(HALF_BITS)))
        low = column.op("&")(literal_column(str(2**HALF_BITS - 1), BigInteger))
        halves += [func.coalesce(func.sum(high), 0), func.coalesce(func.sum(low), 0)]
    return tuple(halves)


def _joined(halves: Sequence[Any]) -> list[int]:
    whole = [int(half) for half in halves]  # PostgreSQL adds 64-bit integers up to a decimal
    return [(high << HALF_BITS) + low for high, low in zip(whole[::2], whole[1::2], strict=True)]


def _live(connection: Connection, since_ms: int, until_ms: int) -> list[Cell]:
    """Requests, with what those that asked several models (compare, blend, judge) cost booked on each of these."""
    r = requests.c
    window = _within(r.created_at_ms, since_ms, until_ms)
    by: tuple[Any, ...] = (_day(r.created_at_ms), r.model, r.provider, r.task_type)
    several = (r.model.is_(None)) & (r.attempts > 0)
    unpriced = func.sum(case((r.cost_nanousd.is_(None), 1), else_=0))
    failed = func.sum(case((r.status >= 400, 1), else_=0))
    alone = select(*by, func.count(), failed, unpriced, *_sums(requests)).where(*window, ~several).group_by(*by)
    rows = [*connection.execute(alone)]
    counted = select(*by, func.count(), failed, literal(0)).where(*window, several).group_by(*by)
    rows += [(*row, *[0] * 2 * len(SUMMED)) for row in connection.execute(counted)]
    by = (_day(r.created_at_ms), attempts.c.model, attempts.c.provider, r.task_type)
    unpriced = func.sum(case((attempts.c.cost_nanousd.is_(None), 1), else_=0))
    each: Select[Any] = select(*by, literal(0), literal(0), unpriced, *_sums(attempts))
    each = each.join_from(attempts, requests, attempts.c.request_id == r.id).where(*window, several).group_by(*by)
    rows += connection.execute(each)
    return [
        _cell(("gateway", "tokens", "", day, model, provider, task), count, failed, unpriced, halves)
        for day, model, provider, task, count, failed, unpriced, *halves in rows
    ]


def _cell(
    key: tuple[Any, ...], count: Any, failed: int, unpriced: int, halves: Sequence[Any], imported_at_ms: int = 0
) -> Cell:
    source, kind, cut, day, model, provider, task = key
    fresh, read, write, output, cost, *listed = _joined(halves)
    return Cell(
        source, kind, cut, int(day), model, provider, task, None if count is None else int(count), int(failed),
        fresh, read, write, output, cost, sum(listed), int(unpriced), imported_at_ms,
    )  # fmt: skip


def _logged(connection: Connection, since_ms: int, until_ms: int) -> list[Cell]:
    i = imported_requests.c
    by = (i.source, _day(i.created_at_ms), i.model, i.provider, i.task_type)
    sums = (
        func.count(),
        func.sum(case((i.failed.is_(True), 1), else_=0)),
        func.sum(case((i.cost_nanousd.is_(None), 1), else_=0)),
        *_sums(imported_requests, case((i.priced_by == "catalog", i.cost_nanousd), else_=0)),
    )
    rows = select(*by, *sums).where(*_within(i.created_at_ms, since_ms, until_ms), _not_live()).group_by(*by)
    return [
        _cell((source, "tokens", "", day, model, provider, task), count, failed, unpriced, halves)
        for source, day, model, provider, task, count, failed, unpriced, *halves in connection.execute(rows)
    ]


def _reported(connection: Connection, since_ms: int, until_ms: int) -> list[Cell]:
    u = imported_usage.c
    by = (u.source, u.kind, u.cut, _day(u.starts_at_ms), u.model)
    sums = (
        func.sum(u.requests),
        func.sum(case((u.cost_nanousd.is_(None), 1), else_=0)),
        func.max(u.imported_at_ms),
        *_sums(imported_usage, case((u.priced_by == "catalog", u.cost_nanousd), else_=0)),
    )
    rows = select(*by, *sums).where(*_within(u.starts_at_ms, since_ms, until_ms)).group_by(*by)
    return [
        _cell((source, kind, cut, day, model, source, None), count, 0, unpriced, halves, imported_at_ms)
        for source, kind, cut, day, model, count, unpriced, imported_at_ms, *halves in connection.execute(rows)
    ]
