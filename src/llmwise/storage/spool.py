"""The file before the database: what was admitted and what was settled, appended before the answer ends.

    frame      length (4 bytes), CRC-32 of the rest (4), kind (1: `a` admission, `s` settlement), MessagePack
    segment    frames, one after another; a full one is closed and the next begins with the admissions still open
    folder     one process' segments and its lock; a dead process' folder is taken over by whoever locks it first

Its laws. One `write` a record, so that a process that is killed loses nothing: the kernel has the bytes. A machine that
loses power loses at most what came since the last `sync`. Whatever the byte at which a segment ends, its reader gets a
prefix of its records. A damaged frame is skipped, and takes no other with it, while its length holds. A segment is
deleted when all its settlements are in the database and not before: what is replayed is by id, so that once too often
does no harm. Open admissions are carried into the next segment, so that old ones need not be kept for them.

Where the disk takes no more, `settle` says so by `None` and the file stays whole: the writer keeps the record in
memory.
"""

import fcntl
import logging
import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias
from zlib import crc32

import msgspec

from llmwise.domain.records import Admission, AttemptRecord, EntryKind, LedgerEntry, RequestRecord
from llmwise.storage.errors import StorageUnavailable

log = logging.getLogger(__name__)

Settled: TypeAlias = tuple[RequestRecord, Sequence[AttemptRecord], Sequence[LedgerEntry]]
Position: TypeAlias = tuple[int, int]
"""A segment's number and an offset in it: behind the record that it belongs to."""

SEGMENT_BYTES = 16 << 20
READ_BYTES = 1 << 20
FOLDERS = 1024

ADMITTED, SETTLED = ord("a"), ord("s")
DAMAGED = 0
"""The kind that a reader gives to a frame whose checksum is wrong; its payload begins with the kind that it had."""

_HEAD = struct.Struct("<II")
_PREFIX = _HEAD.size + 1
_LIKE_A_FRAME = re.compile(rb"(?s)(?=...\0....[as])")  # one of less than 16 MB, of either kind

_encoder = msgspec.msgpack.Encoder()
_admissions = msgspec.msgpack.Decoder(Admission)
_settlements = msgspec.msgpack.Decoder(tuple[RequestRecord, tuple[AttemptRecord, ...], tuple[LedgerEntry, ...]])


class Spool:
    """One process' folder, locked for as long as the process lives. Every method belongs to one thread, but `sync`,
    which may run in another."""

    def __init__(self, folder: Path, lock: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.error: str | None = None
        """Why the disk takes no records now; `None` when it does."""
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._buffer = bytearray()
        self._open: dict[str, Admission] = {}
        self._oldest = self._segment = max(_segments(folder) + _segments(folder, "damaged"), default=0) + 1
        self._offset = 0
        self._dirty = False
        self._torn = False  # the segment ends in half a frame that could not be cut off
        self._fd = _create(folder, self._segment)

    @classmethod
    def claim(cls, root: Path, segment_bytes: int = SEGMENT_BYTES) -> "Spool":
        """The first folder below `root` that no process holds, with whatever a dead one left in it (see `Leftovers`).
        Raises `StorageUnavailable`."""
        try:
            for number in range(FOLDERS):
                folder = root / str(number)
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = lock_folder(folder)
                if lock is not None:
                    return cls(folder, lock, segment_bytes)
        except OSError as error:
            remedy = "name a folder that llmwise may write to in [storage] spool"
            raise StorageUnavailable(str(root), f"the spool can't be opened: {error.strerror}", remedy) from error
        raise StorageUnavailable(str(root), f"{FOLDERS} processes hold a folder each", "give this gateway another root")

    @property
    def start(self) -> Position:
        """Before the first record that this process writes."""
        return self._oldest, 0

    @property
    def open_admissions(self) -> int:
        return len(self._open)

    def admit(self, admission: Admission) -> None:
        """Note that a request begins. On a disk that is full only memory knows, until the next segment."""
        self._open[admission.id] = admission
        self._append(ADMITTED, admission)

    def settle(self, settled: Settled) -> Position | None:
        """Note that a request has ended. `None`: the disk didn't take it, and the record is the caller's to keep."""
        self._open.pop(settled[0].id, None)
        return (self._segment, self._offset) if self._append(SETTLED, settled) else None

    def read(self, after: Position, limit: int) -> tuple[list[Settled], Position]:
        """Up to `limit` settlements behind `after`, and the position behind the last of them."""
        number, offset = after
        found: list[Settled] = []
        while len(found) < limit:
            end = self._offset if number == self._segment else None
            data = _read(self.folder / _name(number), offset, end)
            start = offset
            for kind, payload, stop in frames(data):
                offset = start + stop
                if kind == SETTLED:
                    found.append(_settlements.decode(payload))
                    if len(found) == limit:
                        break
            if offset == start:  # nothing whole is left of this segment
                if number == self._segment:
                    break
                number, offset = number + 1, 0
        return found, (number, offset)

    def release(self, before: Position) -> None:
        """All settlements before this position are in the database: delete the segments that are behind it."""
        while self._oldest < before[0]:
            _delete(self.folder / _name(self._oldest))
            self._oldest += 1

    def sync(self) -> None:
        """Bring what was written to the disk itself. May take long: not for the loop's thread."""
        if not self._dirty:
            return
        self._dirty = False
        fd = os.dup(self._fd)  # the segment may be closed meanwhile
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self, everything_stored: bool) -> None:
        """Let go of the folder. With `everything_stored` and no request open nothing is left to replay."""
        os.close(self._fd)
        if everything_stored and not self._open:
            self.release((self._segment + 1, 0))
        os.close(self._lock)

    def _append(self, kind: int, value: object) -> bool:
        if self._offset >= self._segment_bytes or self._torn:
            self._rotate()
            if self._torn:
                return False
        return self._write(kind, value)

    def _write(self, kind: int, value: object) -> bool:
        buffer = self._buffer
        _encoder.encode_into(value, buffer, _PREFIX)
        buffer[_HEAD.size] = kind
        size = len(buffer)
        with memoryview(buffer) as view:
            _HEAD.pack_into(buffer, 0, size - _HEAD.size, crc32(view[_HEAD.size :]))
        try:
            written = os.write(self._fd, buffer)
            if written != size:
                raise OSError(28, "no space is left on the disk")
        except OSError as error:
            self._refused(error)
            return False
        self._offset += size
        self._dirty = True
        if self.error is not None:
            log.warning("the spool takes records again")
            self.error = None
        return True

    def _refused(self, error: OSError) -> None:
        if self.error is None:
            log.error("the spool in %s takes no records, they wait in memory: %s", self.folder, error.strerror)
        self.error = error.strerror or str(error)
        try:
            os.ftruncate(self._fd, self._offset)
        except OSError:
            self._torn = True

    def _rotate(self) -> None:
        """Begin the next segment, with the open admissions; stay with this one if the disk has no room for it."""
        number = self._segment + 1
        try:
            fd = _create(self.folder, number)
        except OSError as error:
            self._refused(error)
            return
        os.close(self._fd)
        self._fd, self._segment, self._offset, self._torn = fd, number, 0, False
        for admission in [*self._open.values()]:
            self._write(ADMITTED, admission)


class Leftovers:
    """What a process that has ended left in a folder whose lock the caller holds: read in the order of writing, and
    then, as `interrupted`, what was admitted and never settled. `lost` counts the settlements that can't be read, each
    stretch behind a damaged length as one."""

    def __init__(self, folder: Path, before: int | None = None) -> None:
        """Segments from number `before` on are somebody's who lives."""
        self.lost = 0
        self._folder = folder
        self._numbers = [number for number in _segments(folder) if before is None or number < before]
        self._open: dict[str, Admission] = {}
        self._in_doubt: set[str] = set()  # open when a settlement was lost, which may have been theirs
        self._damaged: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._numbers)

    def settlements(self, batch: int) -> Iterator[list[Settled]]:
        found: list[Settled] = []
        for number in self._numbers:
            data = _read(self._folder / _name(number), 0, None, whole=True)
            end = 0
            for kind, payload, stop in frames(data):
                end = stop
                settled = self._take(number, kind, payload)
                if settled is None:
                    continue
                found.append(settled)
                if len(found) == batch:
                    yield found
                    found = []
            if _damaged(data, end):
                self._lose(number, DAMAGED)
        if found:
            yield found

    def interrupted(self) -> tuple[Admission, ...]:
        """After `settlements` is through. Not those whose settlement may be among the lost: they may have been
        answered, and nobody knows any more."""
        return tuple(admission for id, admission in self._open.items() if id not in self._in_doubt)

    def discard(self) -> None:
        """All of it is in the database, but for what is damaged: that is kept for people to look at."""
        for number in self._numbers:
            path = self._folder / _name(number)
            if number in self._damaged:
                log.error("%s: some of it can't be read; kept as .damaged", path)
                path.rename(path.with_suffix(".damaged"))
            else:
                _delete(path)
        if self.lost:
            unknown = sorted(self._open.keys() & self._in_doubt)
            log.error("%d settled requests are lost; how these ended is not known: %s", self.lost, unknown[:100])
        self._numbers = []

    def _take(self, number: int, kind: int, payload: bytes) -> Settled | None:
        try:
            if kind == ADMITTED:
                admission = _admissions.decode(payload)
                self._open[admission.id] = admission
                self._in_doubt.discard(admission.id)  # carried into a new segment, so that it was not settled before
            elif kind == SETTLED:
                settled = _settlements.decode(payload)
                self._open.pop(settled[0].id, None)
                return settled
            else:
                self._lose(number, payload[0] if kind == DAMAGED else kind)
        except msgspec.DecodeError:  # whole, but not of this program's making
            self._lose(number, kind)
        return None

    def _lose(self, number: int, kind: int) -> None:
        self._damaged.add(number)
        if kind != ADMITTED:
            self.lost += 1
            self._in_doubt |= self._open.keys()


def interrupted(admission: Admission) -> Settled:
    """The record of a request whose process died: what it used is not known, and nobody pays. What was reserved goes
    back."""
    record = RequestRecord(
        id=admission.id,
        key_id=admission.key_id,
        created_at_ms=admission.created_at_ms,
        mode=admission.mode,
        dialect=admission.dialect,
        stream=admission.stream,
        requested_model=admission.requested_model,
        model=None,
        provider=None,
        status=500,
        code="interrupted",
        finish_reason=None,
        attempts=0,
        latency_ms=0,
        ttft_ms=None,
        input_tokens=0,
        cache_read_tokens=0,
        cache_write_tokens=0,
        output_tokens=0,
        reasoning_tokens=0,
        usage_estimated=True,
        cost_nanousd=None,
        task_type=None,
        confidence=None,
        auto_strategy=None,
        goal=None,
        conversation_id=None,
        route=None,
        warnings=None,
        prompt=None,
        answer=None,
    )
    if admission.account_id is None or not admission.reserved_nanousd:
        return record, (), ()
    reserved = admission.reserved_nanousd
    moves: tuple[tuple[EntryKind, int], ...] = (("reserve", -reserved), ("refund", reserved))
    entries = tuple(
        LedgerEntry(
            f"{admission.id}/{kind}",
            admission.account_id,
            admission.key_id,
            admission.id,
            kind,
            amount,
            admission.created_at_ms,
            "interrupted",
        )
        for kind, amount in moves
    )
    return record, (), entries


def abandoned(root: Path, own: Path) -> Iterator[tuple[int, Leftovers]]:
    """Folders below `root` with something left by a process that has died, each with the lock that holds it, which is
    the caller's to close."""
    for folder in sorted(root.iterdir()):
        if folder == own or not folder.is_dir() or not _segments(folder):
            continue
        lock = lock_folder(folder)
        if lock is not None:
            yield lock, Leftovers(folder)


def waiting(root: Path) -> tuple[int, int]:
    """How many settlements lie on the spools below `root`, and how many bytes; looks at them without the locks."""
    paths = [folder / _name(number) for folder in root.iterdir() if folder.is_dir() for number in _segments(folder)]
    contents = [_read(path, 0, None, whole=True) for path in paths]
    settled = sum(kind == SETTLED for data in contents for kind, _, _ in frames(data))
    return settled, sum(map(len, contents))


def damaged(root: Path) -> list[Path]:
    """The segments below `root` that were kept because some of their records can't be read."""
    return sorted(path for folder in root.iterdir() if folder.is_dir() for path in folder.glob("[0-9]*.damaged"))


def frames(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Kind, payload and end of each frame from the start of `data` on; `DAMAGED` is one whose checksum is wrong. Ends
    at the last whole one that the lengths lead to: what is damaged behind it may still be being written."""
    start, size = 0, len(data)
    held: list[tuple[int, bytes, int]] = []
    while start + _PREFIX <= size:
        length, checksum = _HEAD.unpack_from(data, start)
        body = start + _HEAD.size
        end = body + length
        if not length or end > size:
            return
        if crc32(data[body:end]) != checksum:
            held.append((DAMAGED, data[body:end], end))
        else:
            yield from held
            held.clear()
            yield data[body], data[body + 1 : end], end
        start = end


def lock_folder(folder: Path) -> int | None:
    """A file descriptor that holds the folder until it is closed, or its process ends however it ends. `None`: another
    process holds it."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _damaged(data: bytes, end: int) -> bool:
    """Whether more lies at `end` than a crash leaves, which is half a frame or zeros: all of one that can't be taken,
    or a whole one somewhere behind. That one is not read: without a length that leads to it, it could be a part of
    somebody's text."""
    return _fits(data, end) or any(
        _fits(data, found.start()) and _checks(data, found.start()) for found in _LIKE_A_FRAME.finditer(data, end + 1)
    )


def _fits(data: bytes, start: int) -> bool:
    room = len(data) - start - _HEAD.size
    return room > 0 and 0 < _HEAD.unpack_from(data, start)[0] <= room


def _checks(data: bytes, start: int) -> bool:
    length, checksum = _HEAD.unpack_from(data, start)
    body = start + _HEAD.size
    return crc32(memoryview(data)[body : body + length]) == int(checksum)


def _name(number: int) -> str:
    return f"{number:08d}.spool"


def _segments(folder: Path, suffix: str = "spool") -> list[int]:
    return sorted(int(path.stem) for path in folder.glob(f"[0-9]*.{suffix}"))


def _create(folder: Path, number: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_CLOEXEC
    return os.open(folder / _name(number), flags, 0o600)


def _delete(path: Path) -> None:
    path.unlink(missing_ok=True)


def _read(path: Path, offset: int, end: int | None, *, whole: bool = False) -> bytes:
    """At most `READ_BYTES`, and at least the frame that begins at `offset`; nothing if the file is gone."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            if whole:
                return file.read()
            wanted = READ_BYTES if end is None else min(READ_BYTES, end - offset)
            data = file.read(wanted)
            if len(data) >= _HEAD.size:
                first = _HEAD.unpack_from(data, 0)[0] + _HEAD.size
                if first > len(data):
                    data += file.read(first - len(data))
            return data
    except FileNotFoundError:
        return b""
