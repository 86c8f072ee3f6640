"""What only PostgreSQL has: partitions by day, an order for changes, and errors with a meaning."""

import threading

import pytest
from sqlalchemy import Connection, delete, text

from llmwise.storage import ledger, meta, postgres, rollup, usage
from llmwise.storage.database import Database
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.postgres import DAY_MS, DAYS_AHEAD, partition
from llmwise.storage.sums import HOUR_MS
from llmwise.storage.tables import requests

from .samples import NOW_MS, attempt, request

TODAY = NOW_MS // DAY_MS


@pytest.fixture
def database(postgres_url: str) -> Database:
    opened = Database.open(postgres_url)
    opened.migrate()
    return opened


def test_days_have_partitions_ahead_and_retention_drops_them(database: Database) -> None:
    database.write(postgres.make_ahead, TODAY)
    database.write(postgres.make_ahead, TODAY + 1)  # again, a day later
    old, new = request(1), request(2, id="req_later", created_at_ms=(TODAY + DAYS_AHEAD) * DAY_MS)
    database.append(ledger.insert, [old, new], [attempt(old), attempt(new)])
    assert database.write(postgres.drop_before, TODAY + 1) == [partition(TODAY)]
    assert database.read(ledger.request, old.id) is None
    assert database.read(ledger.request, new.id) is not None
    database.close()


def test_a_record_of_a_day_without_a_partition_is_kept_all_the_same(database: Database) -> None:
    database.write(postgres.make_ahead, TODAY)
    old = request(1, created_at_ms=NOW_MS - 1000 * DAY_MS)
    database.append(ledger.insert, [old], [])
    database.append(ledger.insert, [old], [])
    assert database.read(ledger.history, None)[0] == 1
    database.close()


def test_who_changes_what_it_has_read_waits_for_the_other(database: Database) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow(connection: object) -> None:
        inside.set()
        assert go_on.wait(10)

    first = threading.Thread(target=database.write, args=(slow,))
    first.start()
    assert inside.wait(10)
    second = threading.Thread(target=database.write, args=(meta.set_meta, "a", "1"))
    second.start()
    database.append(ledger.insert, [request(1)], [])  # what only adds waits for nobody
    second.join(0.2)
    assert second.is_alive()
    go_on.set()
    first.join(10)
    second.join(10)
    assert database.read(meta.meta_value, "a") == "1"
    database.close()


def test_no_record_slips_in_while_its_hour_is_summed_up(database: Database) -> None:
    """One is being added as its hour is closed, the other comes while it is being closed."""
    early, late = request(1, created_at_ms=NOW_MS), request(2, created_at_ms=NOW_MS)
    added, commit, closing, close_now = (threading.Event() for _ in range(4))

    def add(connection: Connection) -> None:
        ledger.insert(connection, [early], [])
        added.set()
        assert commit.wait(10)

    def close(connection: Connection) -> int | None:
        day = rollup.close_a_day(connection, NOW_MS + 3 * HOUR_MS)
        closing.set()
        assert close_now.wait(10)
        return day

    adding = threading.Thread(target=database.append, args=(add,))
    database.append(ledger.insert, [request(3, created_at_ms=NOW_MS)], [])
    adding.start()
    assert added.wait(10)
    summing = threading.Thread(target=database.write, args=(close,))
    summing.start()
    assert not closing.wait(0.2)
    commit.set()
    assert closing.wait(10)
    coming = threading.Thread(target=database.append, args=(ledger.insert, [late], []))
    coming.start()
    coming.join(0.2)
    assert coming.is_alive()
    close_now.set()
    for thread in (adding, summing, coming):
        thread.join(10)
    assert database.read(usage.summary, None, 0).total.requests == 3
    while database.write(rollup.close_a_day, NOW_MS + 3 * HOUR_MS) is not None:
        pass
    database.write(lambda c: c.execute(delete(requests)))  # only the sums are left
    assert database.read(usage.summary, None, 0).total.requests == 3
    database.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda url: url.replace("postgres@/postgres?", "postgres@/nowhere?"), 'database "nowhere" does not exist'),
        (lambda url: url.replace("host=", "host=/nowhere"), "the server can't be used"),
        (lambda url: url.replace("postgres@", "stranger@"), 'role "stranger" does not exist'),
    ],
)
def test_a_database_that_can_not_be_reached_says_why_and_what_to_do(
    change: "object", says: str, postgres_url: str
) -> None:
    assert callable(change)
    database = Database.open(change(postgres_url))
    with pytest.raises(StorageUnavailable, match=says):
        database.migrate()
    database.close()


def test_a_statement_that_takes_too_long_is_the_databases_fault_and_a_bad_row_is_not(database: Database) -> None:
    with pytest.raises(StorageUnavailable, match="statement timeout"):
        database.read(lambda c: c.execute(text("SET statement_timeout = 10; SELECT pg_sleep(5)")))
    with pytest.raises(Exception, match="out of range") as caught:
        database.append(ledger.insert, [request(1, latency_ms=2**70)], [])
    assert not isinstance(caught.value, StorageUnavailable)
    database.close()


def test_a_password_is_never_shown() -> None:
    database = Database.open("postgresql://user:secret@localhost/db")
    assert "secret" not in database.url
    database.close()
