"""Provider keys at rest: what opens them and what doesn't."""

import pytest
from msgspec.structs import replace

from llmwise.storage.rows import SealedKey
from llmwise.storage.sealing import Sealer, SealingError, hint_of, new_master

SECRET = "sk-0123456789abcdefghij"
OLD, NEW = new_master(), new_master()


def sealed(sealer: Sealer) -> SealedKey:
    return sealer.seal(id="pk_1", account_id="a", provider="openai", origin="https://x:443", secret=SECRET, now_ms=1)


def test_what_is_sealed_opens_and_shows_nothing() -> None:
    row = sealed(Sealer([OLD]))
    opened = Sealer([OLD]).open(row)
    assert opened.secret == SECRET
    assert SECRET not in repr(opened)
    assert SECRET not in repr(row)
    assert sealed(Sealer([OLD])).sealed != row.sealed, "the same key twice looks different"


@pytest.mark.parametrize(
    "change", [{"account_id": "b"}, {"provider": "gemini"}, {"origin": "https://evil:443"}, {"sealed": "gAAAA"}]
)
def test_a_row_that_was_changed_opens_to_nothing(change: dict[str, str]) -> None:
    row = replace(sealed(Sealer([OLD])), **change)
    assert Sealer([OLD]).open(row).secret is None


def test_rotation_keeps_what_there_is_and_needs_the_old_key_once() -> None:
    row = sealed(Sealer([OLD]))
    assert Sealer([NEW]).open(row).secret is None
    with pytest.raises(SealingError, match="none of the master keys"):
        Sealer([NEW]).again(row.sealed)
    again = replace(row, sealed=Sealer([NEW, OLD]).again(row.sealed))
    assert Sealer([NEW]).open(again).secret == SECRET
    assert Sealer([OLD]).open(again).secret is None


def test_a_short_key_shows_none_of_itself() -> None:
    assert hint_of(SECRET) == "...ghij"
    assert hint_of("secret") == "..."
