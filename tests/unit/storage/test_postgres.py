"""What only PostgreSQL has: partitions by day, an order for changes, and errors with a meaning."""

import threading

import pytest
from sqlalchemy import text

from llmwise.storage import ledger, meta, postgres
from llmwise.storage.database import Database
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.postgres import DAY_MS, DAYS_AHEAD, partition

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
