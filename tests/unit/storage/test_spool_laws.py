"""Two laws of the spool: wherever a crash cuts it, what is read is a prefix of what was written; and to replay it any
number of times, stopping anywhere, is to replay it once."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from llmwise.storage import ledger
from llmwise.storage.database import Database
from llmwise.storage.spool import Leftovers, Settled, Spool, frames, interrupted

from .test_spool import admission, segments
from .test_spool import settled as settlement

REQUESTS = 12

# Admissions and settlements as they interleave: each request is admitted, and settled later or never.
histories = st.permutations([number for number in range(REQUESTS) for _ in (0, 1)]).flatmap(
    lambda order: st.tuples(st.just(order), st.sets(st.integers(0, REQUESTS - 1), max_size=4))
)


def write(root: Path, order: Sequence[int], never: set[int], segment_bytes: int) -> tuple[Spool, list[tuple[str, str]]]:
    """The spool of this history, and what was appended, in order."""
    spool = Spool.claim(root, segment_bytes)
    admitted: set[int] = set()
    written: list[tuple[str, str]] = []
    for number in order:
        if number not in admitted:
            admitted.add(number)
            spool.admit(admission(number, reserved_nanousd=100))
            written.append(("admitted", admission(number).id))
        elif number not in never:
            assert spool.settle(settlement(number)) is not None
            written.append(("settled", admission(number).id))
    spool.close(everything_stored=False)
    return spool, written


@given(history=histories, share=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_wherever_a_crash_cuts_it_a_reader_gets_a_prefix(history: tuple[list[int], set[int]], share: float) -> None:
    with tempfile.TemporaryDirectory() as root:
        spool, written = write(Path(root), *history, segment_bytes=1 << 20)
        path = spool.folder / segments(spool.folder)[0]
        data = path.read_bytes()
        cut = int(len(data) * share)
        whole = sum(end <= cut for _, _, end in frames(data))
        path.write_bytes(data[:cut])
        settled = [id for what, id in written[:whole] if what == "settled"]
        open_ = [id for what, id in written[:whole] if what == "admitted" and ("settled", id) not in written[:whole]]
        left = Leftovers(spool.folder)
        assert [one[0].id for batch in left.settlements(5) for one in batch] == settled
        assert [one.id for one in left.interrupted()] == open_


@given(history=histories, stops=st.lists(st.integers(0, REQUESTS), max_size=4), segment_bytes=st.integers(300, 5000))
@settings(max_examples=40, deadline=None)
def test_to_replay_often_is_to_replay_once(
    history: tuple[list[int], set[int]], stops: list[int], segment_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as root:
        spool, written = write(Path(root), *history, segment_bytes=segment_bytes)
        database = Database.open("sqlite:///:memory:")
        database.migrate()
        for stop in [*stops, None]:
            left = Leftovers(spool.folder)
            replayed = [one for batch in left.settlements(2) for one in batch]
            replayed += [interrupted(one) for one in left.interrupted()]
            _store(database, replayed[:stop])
        total, page = database.read(ledger.history, None, limit=100)
        assert total == REQUESTS  # each admitted once, settled or not
        assert {one.id for one in page if one.code == "interrupted"} == {admission(number).id for number in history[1]}
        entries = database.read(ledger.entries, "acc_1", limit=1000)
        assert sum(entry.amount_nanousd for entry in entries) == -5 * sum(what == "settled" for what, _ in written)
        database.close()


def _store(database: Database, batch: Sequence[Settled]) -> None:
    attempts = [attempt for _, of_request, _ in batch for attempt in of_request]
    entries = [entry for _, _, of_request in batch for entry in of_request]
    database.write(ledger.insert, [request for request, _, _ in batch], attempts, entries)
