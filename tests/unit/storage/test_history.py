"""The history's bounds: how far it counts, and how far back it looks for a text."""

from collections.abc import Iterator

import pytest

from llmwise.domain.ids import request_id
from llmwise.storage import ledger
from llmwise.storage.database import Database
from llmwise.storage.ledger import COUNTED, SEARCHED

from .samples import NOW_MS, request

MANY = SEARCHED + 10
RARE_EVERY = 1000


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """`MANY` requests, of which the oldest have a prompt of their own, and one in a thousand was a comparison."""
    opened = Database.open("sqlite:///:memory:")
    opened.migrate()
    opened.append(
        ledger.insert,
        [
            request(
                n,
                id=request_id(NOW_MS + n, n),
                created_at_ms=NOW_MS + n,
                key_id=f"key_{n % 2}",
                mode="compare" if n % RARE_EVERY == 0 else "chat",
                prompt="of old" if n < 10 else "of late",
            )
            for n in range(MANY)
        ],
        [],
    )
    yield opened
    opened.close()


@pytest.mark.parametrize("key_id", [None, "key_0"])
def test_it_counts_so_far_beyond_the_page_and_no_farther(database: Database, key_id: str | None) -> None:
    there = MANY if key_id is None else MANY // 2
    for offset in (0, 7, 4000):
        total, page = database.read(ledger.history, key_id, limit=5, offset=offset)
        assert (total, len(page)) == (min(there, offset + COUNTED), 5)
        assert ledger.is_exact(total, offset, None) == (there < offset + COUNTED)
    total, page = database.read(ledger.history, key_id, offset=there + 1)
    assert (total, page, ledger.is_exact(total, there + 1, None)) == (there, (), True)


@pytest.mark.parametrize("key_id", [None, "key_0"])
def test_pages_follow_each_other_without_gap_or_overlap(database: Database, key_id: str | None) -> None:
    offsets = range(0, 1000, 200)
    pages = [database.read(ledger.history, key_id, limit=200, offset=offset)[1] for offset in offsets]
    times = [one.created_at_ms for page in pages for one in page]
    assert times == [NOW_MS + n for n in range(MANY - 1, -1, -1) if key_id is None or n % 2 == 0][:1000]
    recent = database.read(ledger.recent, key_id, NOW_MS, limit=1000, offset=0, mode=None)
    assert [one.created_at_ms for one in recent] == times


def test_a_rare_mode_is_found_by_its_index(database: Database) -> None:
    total, page = database.read(ledger.history, None, mode="compare", limit=200)
    assert (total, len(page)) == (1 + MANY // RARE_EVERY, 1 + MANY // RARE_EVERY)
    assert database.read(ledger.history, None, mode="judge") == (0, ())


def test_a_text_is_looked_for_in_the_newest_and_an_id_everywhere(database: Database) -> None:
    assert database.read(ledger.history, None, search="of old")[0] == 0
    assert database.read(ledger.history, "key_0", search="of old")[0] == 5  # it has half as many
    total, page = database.read(ledger.history, None, search="OF LATE", limit=3, offset=2)
    assert (total, [one.created_at_ms - NOW_MS for one in page]) == (SEARCHED, [MANY - 3, MANY - 4, MANY - 5])
    assert not ledger.is_exact(total, 2, "OF LATE")
    oldest = request_id(NOW_MS, 0)
    total, page = database.read(ledger.history, None, search=oldest)
    assert (total, page[0].prompt, ledger.is_exact(total, 0, oldest)) == (1, "of old", True)
    assert database.read(ledger.history, "key_1", search=oldest)[0] == 0
