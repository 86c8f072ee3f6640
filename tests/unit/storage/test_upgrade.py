"""A database of the first schema that holds rows is brought to the newest, and everything in it is still there."""

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from msgspec.structs import asdict
from sqlalchemy import Connection, text

import llmwise.storage
from llmwise.domain.access import DEFAULT_ACCOUNT
from llmwise.storage import schema
from llmwise.storage.database import Database
from llmwise.storage.keys import hash_key
from llmwise.storage.rows import SettledRequest
from llmwise.storage.store import Store

from .samples import attempt, request

pytestmark = pytest.mark.anyio

HASH = hash_key("mm_sk_" + "5" * 64)
ONE = request(-40 * 86_400_000, key_id="key_1")
TWO = request(0, key_id="key_1", attempts=2, cost_nanousd=None)
OF_ONE = attempt(ONE)
OF_TWO = (attempt(TWO, 0, outcome="provider_error", finish_reason=None), attempt(TWO, 1))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def first_schema(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(llmwise.storage.__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")


def insert(connection: Connection, table: str, values: dict[str, Any]) -> None:
    """What `table` had no column for in the first schema is left out."""
    columns = {row[1] for row in connection.execute(text(f"PRAGMA table_info({table})"))}
    kept = {name: value for name, value in values.items() if name in columns}
    names, places = ", ".join(kept), ", ".join(f":{name}" for name in kept)
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), kept)


def first_rows(connection: Connection) -> None:
    """As the program of that time wrote them: each attempt a row of its own."""
    for record in (ONE, TWO):
        insert(connection, "requests", asdict(record))
    for one in (OF_ONE, *OF_TWO):
        insert(connection, "attempts", asdict(one))
    key = {"id": "key_1", "name": "old", "hash": HASH, "prefix": "mm_sk_5555", "admin": True, "created_at_ms": 1}
    insert(connection, "keys", key)
    insert(connection, "meta", {"name": "kept", "value": "word"})


async def test_a_database_of_the_first_schema_is_upgraded_with_everything_that_it_holds(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    database = Database.open(url)
    database.write(first_schema)
    database.write(first_rows)
    database.close()

    store = Store.open(url)
    try:
        await store.migrate()
        await store.migrate()  # and again, which is nothing
        found = [await store.request(record.id) for record in (ONE, TWO)]
        assert found == [SettledRequest(ONE, (OF_ONE,)), SettledRequest(TWO, OF_TWO)]
        total, page = await store.history("key_1")
        assert (total, [record.id for record in page]) == (2, [TWO.id, ONE.id])

        key = await store.find_access(HASH)
        assert key is not None
        assert (key.key.id, key.key.admin, key.key.account_id) == ("key_1", True, DEFAULT_ACCOUNT)
        assert await store.transactions(DEFAULT_ACCOUNT, None, limit=10, offset=0) == ()

        three = request(3, key_id="key_1")
        await store.insert([three], [attempt(three)])
        assert (await store.history("key_1"))[0] == 3
    finally:
        await store.close()
    database = Database.open(url)
    assert database.read(schema.at_head)
    assert database.read(lambda c: c.execute(text("SELECT value FROM meta WHERE name = 'kept'")).scalar_one()) == "word"
    database.close()
