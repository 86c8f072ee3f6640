"""What the callers heard, what the provider counted, what the records say and what the ledger says: held against each
other. Whatever was killed, and when:

    every request that was answered has one record, complete, with the provider's tokens to the token
    and one settlement: reserve, settle and refund once each, which sum up to its cost to the nano-USD
    every complete record's question reached the provider, once
    every request that reached the provider has a record
    a request that was interrupted costs nothing, and its reservation came back
    nothing is left on the spool
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from msgspec import Struct
from sqlalchemy import Connection, select

from llmwise.storage.database import Database
from llmwise.storage.tables import ledger, requests

from .load import Load
from .rig import COST_NANOUSD, INPUT_TOKENS, NUMBERED, OUTPUT_TOKENS, Rig

T = TypeVar("T")

IN_THE_DATABASE_WITHIN_S = 60.0


class Row(Struct, frozen=True, gc=False):
    """Of a record, what is looked at. `number` is its question's; `None` when it isn't known."""

    id: str
    status: int
    code: str | None
    tokens: tuple[int, int]
    cost_nanousd: int | None
    number: int | None


class Books(Struct, frozen=True):
    """`entries` are of each request: kind and nano-USD."""

    rows: dict[str, Row]
    entries: dict[str, list[tuple[str, int]]]

    @property
    def complete(self) -> list[Row]:
        return [row for row in self.rows.values() if row.status == 200]

    def check(self, answered: Iterable[str]) -> None:
        """Each answered request, and everything that is there of it."""
        missing = [id for id in answered if id not in self.rows or self.rows[id].status != 200]
        assert not missing, f"{len(missing)} answered requests have no complete record: {missing[:3]}"
        for row in self.rows.values():
            entries = self.entries.get(row.id, [])
            kinds = Counter(kind for kind, _ in entries)
            total = sum(amount for _, amount in entries)
            if row.status == 200:
                assert row.tokens == (INPUT_TOKENS, OUTPUT_TOKENS), row
                assert row.cost_nanousd == COST_NANOUSD, row
                assert kinds == {"reserve": 1, "settle": 1, "refund": 1}, (row, entries)
                assert total == -COST_NANOUSD, (row, entries)
            elif row.code == "interrupted":
                assert kinds == {"reserve": 1, "refund": 1}, (row, entries)
                assert total == 0, (row, entries)
            else:  # a caller that left
                assert kinds == {"reserve": 1, "settle": 1, "refund": 1}, (row, entries)
                assert total == -(row.cost_nanousd or 0), (row, entries)


def of(gateway: Rig, since: str = "") -> Books:
    """Everything in its database, or what came after a request."""
    return _read(gateway, lambda connection: _books(connection, since))


async def check_under_way(gateway: Rig, answered: Sequence[str]) -> None:
    """Of requests that were answered by now, while others go on: they are in the database before long, and right."""
    if not answered:
        return
    deadline = time.monotonic() + IN_THE_DATABASE_WITHIN_S
    while True:
        books = await asyncio.to_thread(of, gateway, min(answered))
        if all(id in books.rows for id in answered) or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    books.check(answered)


def check(gateway: Rig, *loads: Load) -> str:
    """Of a gateway that has ended, and has nothing left to replay. Returns a line for people."""
    answered = [id for load in loads for id in load.heard.answered]
    assert len({*answered}) == len(answered)
    books = of(gateway)
    books.check(answered)
    assert {*books.entries} <= {*books.rows}, "an entry of no request"
    left = [*gateway.folder.rglob("*.spool")]
    assert not left, left

    complete, reached = books.complete, gateway.counts.by_number
    twice = [row for row in complete if row.number is not None and reached[row.number] != 1]
    assert not twice, twice[:3]
    numbers = {row.number for row in complete} - {None}
    assert len(numbers) == len(complete)
    without = sum(reached[number] for number in reached.keys() - numbers)
    others = len(books.rows) - len(complete)
    assert without <= others, f"{without} reached the provider besides complete ones, and {others} records say so"

    provider_tokens = sum(reached[number] for number in reached.keys() & numbers) * (INPUT_TOKENS + OUTPUT_TOKENS)
    tokens = sum(sum(row.tokens) for row in complete)
    costs = sum(row.cost_nanousd or 0 for row in complete)
    charged = -sum(amount for row in complete for _, amount in books.entries[row.id])
    assert tokens == provider_tokens, (tokens, provider_tokens)
    assert charged == costs == len(complete) * COST_NANOUSD, (charged, costs)
    assert sum(amount for of_one in books.entries.values() for _, amount in of_one) == -sum(
        row.cost_nanousd or 0 for row in books.rows.values()
    )
    interrupted = sum(row.code == "interrupted" for row in books.rows.values())
    return (
        f"{len(answered)} answered, {len(books.rows)} records ({len(complete)} complete, {interrupted} interrupted), "
        f"{reached.total()} reached the provider; tokens of records and provider: {tokens}; "
        f"nano-USD of records and ledger: {costs}; no answer without its record and settlement, none twice"
    )


def _books(connection: Connection, since: str) -> Books:
    r, e = requests.c, ledger.c
    columns = (r.id, r.status, r.code, r.input_tokens, r.output_tokens, r.cost_nanousd, r.prompt)
    rows = {}
    for id, status, code, tokens_in, tokens_out, cost, prompt in connection.execute(
        select(*columns).where(r.id >= since)
    ):
        asked = NUMBERED.search(prompt or "")
        rows[id] = Row(id, status, code, (tokens_in, tokens_out), cost, int(asked[1]) if asked else None)
    entries: dict[str, list[tuple[str, int]]] = {}
    found = connection.execute(
        select(e.request_id, e.kind, e.amount_nanousd).where(e.request_id.is_not(None), e.request_id >= since)
    )
    for id, kind, amount in found:
        entries.setdefault(id, []).append((kind, amount))
    return Books(rows, entries)


def _read(gateway: Rig, work: Callable[[Connection], T]) -> T:
    database = Database.open(gateway.database)
    try:
        return database.read(work)
    finally:
        database.close()
