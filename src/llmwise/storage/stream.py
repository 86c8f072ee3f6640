"""All settled requests of a time, in the order of their ids, in pages: a month of traffic in the memory of one page.

A page is a transaction of its own and the next one begins behind its last id (keyset: no offset that the database
would have to count again), so that a reader of a million requests holds no transaction open for minutes. Requests that
settle meanwhile may be in it or not; none is in it twice.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, null, select

from llmwise.domain.records import AttemptRecord, Mode, RequestRecord
from llmwise.storage import lone
from llmwise.storage.ledger import window_between
from llmwise.storage.rows import SettledRequest
from llmwise.storage.tables import LONE, attempts, requests

PAGE = 500

_FIELDS = RequestRecord.__struct_fields__
_TEXTS = ("prompt", "answer")


def page(
    connection: Connection,
    since_ms: int,
    until_ms: int,
    after: str,
    *,
    mode: Mode | None,
    texts: bool,
    limit: int = PAGE,
) -> tuple[SettledRequest, ...]:
    """The next `limit` requests created in [since_ms, until_ms) whose id is greater than `after` (`""`: the first),
    with their attempts. Without `texts` neither question nor answer is read: both are `None`."""
    r = requests.c
    columns: list[Any] = [null().label(n) if n in _TEXTS and not texts else r[n] for n in _FIELDS]
    wanted = select(*columns, *(r[name] for name in LONE))
    wanted = wanted.where(*window_between(r.id, r.key_id, r.created_at_ms, None, since_ms, until_ms), r.id > after)
    if mode is not None:
        wanted = wanted.where(r.mode == mode)
    rows = connection.execute(wanted.order_by(r.id).limit(limit)).all()
    records = [(RequestRecord(*row[: len(_FIELDS)]), row[len(_FIELDS) :]) for row in rows]
    several = _attempts(connection, [record.id for record, folded in records if folded[_OUTCOME] is None])
    return tuple(
        SettledRequest(
            record,
            tuple(several.get(record.id, ())) if folded[_OUTCOME] is None else (lone.unfold(record, tuple(folded)),),
        )
        for record, folded in records
    )


_OUTCOME = LONE.index("outcome")


def _attempts(connection: Connection, ids: Sequence[str]) -> dict[str, list[AttemptRecord]]:
    found: dict[str, list[AttemptRecord]] = defaultdict(list)
    if ids:
        columns = [attempts.c[name] for name in AttemptRecord.__struct_fields__]
        wanted = select(*columns).where(attempts.c.request_id.in_(ids))
        for row in connection.execute(wanted.order_by(attempts.c.request_id, attempts.c.number)):
            attempt = AttemptRecord(*row)
            found[attempt.request_id].append(attempt)
    return found
