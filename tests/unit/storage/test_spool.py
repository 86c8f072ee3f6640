"""The file before the database: what is appended comes back, whatever happened to the process, the disk or the file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmwise.domain.records import Admission, LedgerEntry
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.spool import Leftovers, Settled, Spool, abandoned, damaged, frames, interrupted

from .samples import attempt, request

ROOT = Path(__file__).parents[3]
"""Where another process finds these tests."""


def admission(number: int, reserved_nanousd: int = 0) -> Admission:
    of = request(number)
    account = "acc_1" if reserved_nanousd else None
    return Admission(
        of.id,
        of.key_id,
        account,
        of.created_at_ms,
        of.mode,
        of.dialect,
        of.stream,
        of.requested_model,
        reserved_nanousd,
    )


def settled(number: int) -> Settled:
    of = request(number)
    entry = LedgerEntry(f"{of.id}/settle", "acc_1", of.key_id, of.id, "settle", -5, of.created_at_ms, None)
    return of, (attempt(of),), (entry,)


def put(spool: Spool, numbers: range) -> None:
    for number in numbers:
        spool.admit(admission(number))
        assert spool.settle(settled(number)) is not None


def left_in(folder: Path) -> tuple[list[Settled], list[str]]:
    left = Leftovers(folder)
    found = [one for batch in left.settlements(3) for one in batch]
    return found, [one.id for one in left.interrupted()]


def segments(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.spool"))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.claim(tmp_path / "spool")


def test_what_was_settled_is_read_back_whole_and_in_order(spool: Spool) -> None:
    put(spool, range(10))
    found, position = spool.read(spool.start, 4)
    assert found == [settled(number) for number in range(4)]
    found, position = spool.read(position, 100)
    assert found == [settled(number) for number in range(4, 10)]
    assert spool.read(position, 100) == ([], position)


def test_reading_goes_on_over_the_ends_of_segments(tmp_path: Path) -> None:
    spool = Spool.claim(tmp_path, segment_bytes=1000)
    put(spool, range(20))
    assert len(segments(spool.folder)) > 3
    assert spool.read(spool.start, 100)[0] == [settled(number) for number in range(20)]


def test_a_record_larger_than_a_read_comes_back(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmwise.storage.spool.READ_BYTES", 64)
    put(spool, range(3))
    assert spool.read(spool.start, 100)[0] == [settled(number) for number in range(3)]


def test_segments_go_when_all_before_a_position_is_stored(tmp_path: Path) -> None:
    spool = Spool.claim(tmp_path, segment_bytes=1000)
    put(spool, range(20))
    _, position = spool.read(spool.start, 10)
    spool.release(position)
    assert spool.read(position, 100)[0] == [settled(number) for number in range(10, 20)]
    assert segments(spool.folder)[0] == f"{position[0]:08d}.spool"


def test_a_request_that_outlives_its_segment_is_not_forgotten(tmp_path: Path) -> None:
    spool = Spool.claim(tmp_path, segment_bytes=1000)
    spool.admit(admission(99))
    put(spool, range(20))
    spool.release(spool.read(spool.start, 100)[1])
    assert len(segments(spool.folder)) == 1
    assert left_in(spool.folder)[1] == [admission(99).id]


def test_after_a_clean_end_nothing_is_left(spool: Spool) -> None:
    put(spool, range(3))
    spool.close(everything_stored=True)
    assert segments(spool.folder) == []


def test_what_is_open_or_not_stored_at_the_end_is_kept(spool: Spool) -> None:
    put(spool, range(3))
    spool.admit(admission(7))
    spool.close(everything_stored=True)
    assert left_in(spool.folder) == ([settled(number) for number in range(3)], [admission(7).id])


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 200])
def test_a_torn_last_record_takes_no_other_with_it(spool: Spool, cut: int) -> None:
    put(spool, range(3))
    path = spool.folder / segments(spool.folder)[0]
    os.truncate(path, path.stat().st_size - cut)
    found, open_ = left_in(spool.folder)
    assert found == [settled(number) for number in range(2)]
    assert open_ == [request(2).id]


def test_zeros_behind_the_records_are_what_a_power_cut_leaves(spool: Spool) -> None:
    put(spool, range(3))
    with (spool.folder / segments(spool.folder)[0]).open("ab") as file:
        file.write(b"\0" * 100)
    left = Leftovers(spool.folder)
    assert sum(len(batch) for batch in left.settlements(10)) == 3
    left.discard()
    assert [path.name for path in spool.folder.iterdir()] == ["lock"]


def flip(spool: Spool, frame: int, byte: int) -> Path:
    """Damage one byte of a frame of the first segment: 0 is its length's first, 8 its kind, 20 in its payload."""
    path = spool.folder / segments(spool.folder)[0]
    data = bytearray(path.read_bytes())
    starts = [0, *(end for _, _, end in frames(bytes(data)))]
    data[starts[frame] + byte] ^= 1
    path.write_bytes(data)
    return path


def test_a_damaged_record_takes_no_other_with_it_and_the_file_is_kept(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    put(spool, range(8))
    spool.admit(admission(9))
    path = flip(spool, frame=3, byte=20)  # the second settlement
    left = Leftovers(spool.folder)
    found = [one for batch in left.settlements(3) for one in batch]
    assert found == [settled(number) for number in (0, 2, 3, 4, 5, 6, 7)]
    assert left.lost == 1
    assert left.interrupted() == (admission(9),), "the one whose settlement is damaged may have been answered"
    left.discard()
    assert path.with_suffix(".damaged").exists()
    assert damaged(spool.folder.parent) == [path.with_suffix(".damaged")]
    assert "1 settled requests are lost" in caplog.text
    assert admission(1).id in caplog.text


def test_several_damaged_records_in_a_row_are_skipped(spool: Spool) -> None:
    put(spool, range(4))
    for frame in (3, 2, 1):
        flip(spool, frame, 20)
    left = Leftovers(spool.folder)
    assert [one for batch in left.settlements(3) for one in batch] == [settled(2), settled(3)]
    assert (left.lost, left.interrupted()) == (2, ()), "the admission between them is not counted"


def test_a_damaged_admission_loses_nothing(spool: Spool) -> None:
    put(spool, range(3))
    flip(spool, frame=2, byte=20)
    left = Leftovers(spool.folder)
    assert sum(len(batch) for batch in left.settlements(3)) == 3
    assert (left.lost, left.interrupted()) == (0, ())


@pytest.mark.parametrize(
    ("frame", "byte", "kept"),
    [(3, 0, 1), (3, 3, 1), (15, 20, 7)],
    ids=["a length", "a length that leads behind the end", "the last record"],
)
def test_where_no_whole_record_can_be_found_behind_it_the_damage_counts_as_one(
    spool: Spool, frame: int, byte: int, kept: int
) -> None:
    put(spool, range(8))
    path = flip(spool, frame, byte)
    left = Leftovers(spool.folder)
    assert sum(len(batch) for batch in left.settlements(3)) == kept
    assert (left.lost, left.interrupted()) == (1, ())
    left.discard()
    assert damaged(spool.folder.parent) == [path.with_suffix(".damaged")]


def test_what_was_carried_into_a_new_segment_was_not_settled_before(tmp_path: Path) -> None:
    spool = Spool.claim(tmp_path, segment_bytes=4000)
    spool.admit(admission(99))
    put(spool, range(20))
    assert len(segments(spool.folder)) > 1
    flip(spool, frame=2, byte=20)
    left = Leftovers(spool.folder)
    assert sum(len(batch) for batch in left.settlements(3)) == 19
    assert (left.lost, left.interrupted()) == (1, (admission(99),))


def test_a_damaged_file_is_not_overwritten_by_a_later_one(tmp_path: Path) -> None:
    for _ in range(2):
        spool = Spool.claim(tmp_path)
        put(spool, range(3))
        flip(spool, frame=1, byte=20)
        left = Leftovers(spool.folder)
        assert len([*left.settlements(3)]) == 1
        left.discard()
        spool.close(everything_stored=False)
    assert len(damaged(tmp_path)) == 2


def test_a_writer_reads_over_what_was_damaged_below_it(spool: Spool) -> None:
    put(spool, range(4))
    flip(spool, frame=3, byte=20)
    assert spool.read(spool.start, 10)[0] == [settled(number) for number in (0, 2, 3)]


def test_two_processes_get_a_folder_each_and_the_dead_ones_is_taken_over(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from tests.unit.storage.test_spool import Spool, admission, put
spool = Spool.claim(Path({str(tmp_path)!r}))
put(spool, range(2))
spool.admit(admission(5))
print(spool.folder.name, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True, cwd=ROOT) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "0\n"
        mine = Spool.claim(tmp_path)
        assert mine.folder.name == "1"
        assert list(abandoned(tmp_path, mine.folder)) == []
        other.kill()
    [(lock, left)] = abandoned(tmp_path, mine.folder)
    assert [one for batch in left.settlements(10) for one in batch] == [settled(0), settled(1)]
    assert left.interrupted() == (admission(5),)
    left.discard()
    os.close(lock)
    assert list(abandoned(tmp_path, mine.folder)) == []


def test_a_restarted_process_writes_beside_what_was_left(tmp_path: Path) -> None:
    first = Spool.claim(tmp_path)
    put(first, range(2))
    first.close(everything_stored=False)
    second = Spool.claim(tmp_path)
    put(second, range(2, 4))
    left = Leftovers(second.folder, before=second.start[0])
    assert [one for batch in left.settlements(10) for one in batch] == [settled(0), settled(1)]
    left.discard()
    assert second.read(second.start, 10)[0] == [settled(2), settled(3)]


def test_a_full_disk_is_said_and_the_file_stays_whole(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(spool, range(2))
    write = os.write

    def half(fd: int, data: bytes) -> int:
        return write(fd, bytes(data)[: len(data) // 2])

    monkeypatch.setattr("llmwise.storage.spool.os.write", half)
    assert spool.settle(settled(2)) is None
    assert spool.settle(settled(3)) is None
    said = spool.error
    assert said == "no space is left on the disk"
    assert caplog.text.count("takes no records") == 1
    monkeypatch.undo()
    put(spool, range(4, 6))
    assert spool.error is None
    assert [one[0].id for one in left_in(spool.folder)[0]] == [request(number).id for number in (0, 1, 4, 5)]


def test_a_disk_that_can_not_even_be_cut_back_gets_a_new_segment(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    put(spool, range(2))
    write = os.write

    def refuse(fd: int, size: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("llmwise.storage.spool.os.write", lambda fd, data: write(fd, bytes(data)[:5]))
    monkeypatch.setattr("llmwise.storage.spool.os.ftruncate", refuse)
    assert spool.settle(settled(2)) is None
    monkeypatch.undo()
    put(spool, range(3, 5))
    assert [one[0].id for one in spool.read(spool.start, 10)[0]] == [request(number).id for number in (0, 1, 3, 4)]


def test_a_folder_that_can_not_be_made_is_said_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(StorageUnavailable, match=r"the spool can't be opened.*\[storage\] spool"):
        Spool.claim(tmp_path / "spool")


def test_nobody_else_may_read_the_spool(spool: Spool) -> None:
    put(spool, range(1))
    assert spool.folder.stat().st_mode & 0o077 == 0
    assert {path.stat().st_mode & 0o077 for path in spool.folder.iterdir()} == {0}


def test_an_interrupted_request_costs_nobody_and_gives_back_what_was_reserved() -> None:
    record, attempts, entries = interrupted(admission(1, reserved_nanousd=700))
    assert (record.code, record.status, record.cost_nanousd, record.attempts) == ("interrupted", 500, None, 0)
    assert attempts == ()
    assert [(entry.kind, entry.amount_nanousd) for entry in entries] == [("reserve", -700), ("refund", 700)]
    assert {entry.request_id for entry in entries} == {record.id}
    assert interrupted(admission(1))[2] == ()


def test_syncing_is_harmless_at_any_time(tmp_path: Path) -> None:
    spool = Spool.claim(tmp_path, segment_bytes=500)
    spool.sync()
    put(spool, range(4))
    spool.sync()
    spool.sync()
    assert spool.read(spool.start, 10)[0] == [settled(number) for number in range(4)]
