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


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda data: data[: len(data) // 2], "no whole archive"),
        (lambda data: gzip.compress(b"\n".join(gzip.decompress(data).splitlines()[:-1])), "cut off"),
        (lambda data: gzip.compress(gzip.decompress(data).replace(b'{"rows":18}', b'{"rows":19}')), "19 rows"),
        (lambda data: gzip.compress(gzip.decompress(data).replace(b'"cost_nanousd"', b'"price"', 1)), "price, which"),
        (lambda data: b"not gzip", "no whole archive"),
        (lambda data: gzip.compress(b'{"a": 1}\n'), "no archive of format 1"),
    ],
    ids=["torn", "without its end", "a row short", "from a later version", "something else", "another's"],
)  # fmt: skip
def test_what_is_no_whole_archive_is_refused_and_changes_nothing(
    harm: "object", says: str, tmp_path: Path, lite: str
) -> None:
    assert callable(harm)
    source = filled(lite)
    source.read(archive.backup, tmp_path / "all.gz", NOW_MS)
    source.close()
    (tmp_path / "bad.gz").write_bytes(harm((tmp_path / "all.gz").read_bytes()))
    target = opened(f"sqlite:///{tmp_path / 'b.db'}")
    with pytest.raises(ArchiveError, match=says):
        target.write(archive.restore, tmp_path / "bad.gz")
    assert sum(target.read(archive.counts).values()) == 0
    target.close()


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
    again = run("restore", "all.jsonl.gz", config="b.toml")
    assert (again.returncode, "not empty" in again.stderr, "Traceback" in again.stderr) == (1, True, False)
