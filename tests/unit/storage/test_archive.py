"""A backup is whole or refused, and either database restores either one's."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from llmwise.domain.records import LedgerEntry
from llmwise.storage import archive, keys, ledger, meta
from llmwise.storage.archive import ArchiveError
from llmwise.storage.database import Database

from .samples import NOW_MS, attempt, request

REQUESTS = 5


def opened(url: str) -> Database:
    database = Database.open(url)
    database.migrate()
    return database


def filled(url: str) -> Database:
    database = opened(url)
    records = [request(number, attempts=2, prompt=f"line\n{number}\t\\N") for number in range(REQUESTS)]
    attempts = [attempt(record, number) for record in records for number in range(2)]
    entries = [LedgerEntry(f"{records[0].id}/settle", "acc", None, records[0].id, "settle", -(2**60), NOW_MS, None)]
    database.write(ledger.insert, records, attempts, entries)
    database.write(keys.create_key, "ci", True, NOW_MS, None)
    database.write(meta.set_meta, "a", "b")
    return database


def contents(database: Database) -> list[object]:
    found: list[object] = [database.read(ledger.request, request(number).id) for number in range(REQUESTS)]
    return [*found, database.read(ledger.entries, "acc", limit=10), database.read(keys.list_keys)]


@pytest.fixture
def lite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'a.db'}"


@pytest.mark.parametrize("way", ["to PostgreSQL", "from PostgreSQL"])
def test_an_archive_goes_from_one_engine_to_the_other(way: str, tmp_path: Path, lite: str, postgres_url: str) -> None:
    source, target = (lite, postgres_url) if way == "to PostgreSQL" else (postgres_url, lite)
    one, other = filled(source), opened(target)
    rows = one.read(archive.backup, tmp_path / "all.gz", NOW_MS)
    assert rows == sum(one.read(archive.counts).values()) == REQUESTS * 3 + 3
    assert other.write(archive.restore, tmp_path / "all.gz") == rows
    assert contents(other) == contents(one)
    assert other.read(archive.counts) == one.read(archive.counts)
    one.close()
    other.close()


def test_an_archive_is_for_its_owner_alone_and_overwrites_nothing(tmp_path: Path, lite: str) -> None:
    database = filled(lite)
    database.read(archive.backup, tmp_path / "all.gz", NOW_MS)
    assert (tmp_path / "all.gz").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ArchiveError, match="File exists; name another"):
        database.read(archive.backup, tmp_path / "all.gz", NOW_MS)
    with pytest.raises(ArchiveError, match=r"not empty: .* has rows"):
        database.write(archive.restore, tmp_path / "all.gz")
    database.close()


def rewritten(data: bytes, *swaps: tuple[bytes, bytes]) -> bytes:
    """An archive that gzip finds nothing wrong with."""
    text = gzip.decompress(data)
    for old, new in swaps:
        assert old in text
        text = text.replace(old, new, 1)
    return gzip.compress(text)


def doubled(data: bytes) -> bytes:
    """With the row of the key twice."""
    lines = gzip.decompress(data).splitlines(keepends=True)
    key = next(line for line in lines if line.startswith(b'["key_'))
    lines.insert(lines.index(key), key)
    return rewritten(gzip.compress(b"".join(lines)), (b'{"rows":18}', b'{"rows":19}'))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda data: data[: len(data) // 2], "it is damaged"),
        (lambda data: data[:-8] + bytes([data[-8] ^ 1]) + data[-7:], "CRC check failed"),
        (lambda data: data[:-4] + bytes(4), "Incorrect length"),
        (lambda data: data[:40] + bytes(20) + data[60:], "it is damaged"),
        (lambda data: data + b"more", "it is damaged"),
        (lambda data: gzip.compress(b"\n".join(gzip.decompress(data).splitlines()[:-1])), "cut off"),
        (lambda data: gzip.compress(gzip.decompress(data) + b"[1]\n"), "goes on after its end"),
        (lambda data: rewritten(data, (b'{"rows":18}', b'{"rows":19}')), "19 rows"),
        (lambda data: rewritten(data, (b'"cost_nanousd"', b'"price"')), "price, which"),
        (lambda data: rewritten(data, (b'"columns":', b'"rows_of":')), "missing required field `columns`"),
        (lambda data: rewritten(data, (b'["key_', b'[1,"key_')), "does not have its table's columns"),
        (lambda data: rewritten(data, (b'["key_', b'5\n["key_')), "got `int`"),
        (lambda data: rewritten(data, (b'"ci"', b'["ci"]')), "row of keys does not fit"),
        (doubled, "row of keys does not fit .IntegrityError."),
        (lambda data: rewritten(data, (b'"ci"', b'"\xff"')), "it is damaged"),
        (lambda data: b"not gzip", "no archive of llmwise's"),
        (lambda data: b"PK\x03\x04" + data, "no archive of llmwise's"),
        (lambda data: gzip.compress(b'{"a": 1}\n'), "no archive of format 1"),
    ],
    ids=[
        "torn",
        "another checksum",
        "another length",
        "zeros in it",
        "something behind it",
        "without its end",
        "a row behind its end",
        "a row short",
        "from a later version",
        "a table without columns",
        "a row too wide",
        "a number for a line",
        "a list for a name",
        "a row twice",
        "no UTF-8",
        "something else",
        "a zip",
        "another's",
    ],
)
def test_what_is_no_whole_archive_is_refused_and_changes_nothing(
    harm: "object", says: str, tmp_path: Path, lite: str
) -> None:
    assert callable(harm)
    source = filled(lite)
    source.read(archive.backup, tmp_path / "all.gz", NOW_MS)
    source.close()
    (tmp_path / "bad.gz").write_bytes(harm((tmp_path / "all.gz").read_bytes()))
    target = opened(f"sqlite:///{tmp_path / 'b.db'}")
    with pytest.raises(ArchiveError, match=says) as refused:
        target.write(archive.restore, tmp_path / "bad.gz")
    assert "\n" not in str(refused.value)
    assert "key_" not in str(refused.value), "no row is quoted"
    assert sum(target.read(archive.counts).values()) == 0
    target.close()


def test_whichever_byte_is_flipped_no_other_rows_are_restored(tmp_path: Path, lite: str) -> None:
    source = filled(lite)
    source.read(archive.backup, tmp_path / "all.gz", NOW_MS)
    expected, data = contents(source), (tmp_path / "all.gz").read_bytes()
    source.close()
    for place in range(4, len(data), len(data) // 40):
        (tmp_path / "bad.gz").write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        target = opened("sqlite:///:memory:")
        try:
            target.write(archive.restore, tmp_path / "bad.gz")
        except ArchiveError:
            assert sum(target.read(archive.counts).values()) == 0
        else:  # a byte of the header, which says when it was made
            assert contents(target) == expected
        target.close()


def test_a_full_disk_is_the_archives_and_not_the_databases(
    tmp_path: Path, lite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    database = filled(lite)
    monkeypatch.setattr("llmwise.storage.archive.os.fsync", full)
    with pytest.raises(ArchiveError, match=r"can't write .*all.gz: No space left on device; make room"):
        database.read(archive.backup, tmp_path / "all.gz", NOW_MS)
    assert not (tmp_path / "all.gz").exists()
    database.close()


def test_the_commands_back_up_restore_and_check(tmp_path: Path) -> None:
    def run(*arguments: str, config: str = "a.toml") -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "llmwise", "db", *arguments, "--config", str(tmp_path / config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=50, cwd=tmp_path)

    for name in "ab":
        (tmp_path / f"{name}.toml").write_text(f'[storage]\nurl = "sqlite:///{name}.db"\n[providers.local]\n')
    refused = run("check")
    assert (refused.returncode, "run `llmwise db migrate`" in refused.stderr) == (1, True)
    filled(f"sqlite:///{tmp_path / 'a.db'}").close()
    assert "is at revision" in run("migrate").stdout
    assert f"requests  {REQUESTS:>12,}" in run("check").stdout.replace("requests    ", "requests  ")
    assert f"{REQUESTS * 3 + 3} rows of" in run("backup", "all.jsonl.gz").stdout
    assert f"{REQUESTS * 3 + 3} rows restored" in run("restore", "all.jsonl.gz", config="b.toml").stdout
    (tmp_path / "a.db-spool" / "0").mkdir(parents=True)
    (tmp_path / "a.db-spool" / "0" / "00000001.damaged").touch()
    harmed = run("check")
    assert (harmed.returncode, "00000001.damaged" in harmed.stderr) == (1, True)
    again = run("restore", "all.jsonl.gz", config="b.toml")
    assert (again.returncode, "not empty" in again.stderr, "Traceback" in again.stderr) == (1, True, False)
