"""A file into rows for the store: recognised, read as a stream, priced, classified, and counted.

Importing twice changes nothing, because a row's id is made of what it is about: for a request its source and key, for a
usage bucket its source, times and what it was grouped by. Of a bucket or request that comes again with other numbers
the version imported last counts.

    input = Input(name, file)
    reading = Reading(input, prices, pairing, now_ms)       raises UnknownFormat
    for rows in reading.batches(): store.add(rows)          raises Unreadable
    reading.result
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO, Literal, TypeAlias

import msgspec
from msgspec import Struct

from llmwise.insights.audit.drafts import DAY_MS, Malformed, RequestDraft, UsageDraft, unfit
from llmwise.insights.audit.files import Input
from llmwise.insights.audit.formats import layout, parser, recognise, values
from llmwise.insights.audit.openai_batch import Pairing
from llmwise.insights.audit.prices import Prices
from llmwise.routing.classifier import Classification, classify
from llmwise.storage.audit import Added, ImportedRequest, ImportedUsage, Pricer

Rows: TypeAlias = list[ImportedUsage] | list[ImportedRequest]

BATCH = 2_000
"""Rows a transaction."""
SHOWN_REJECTIONS = 20
KINDS_OF_REJECTION = 50


class Rejection(Struct, frozen=True):
    """A line that was left out, or an entry of a JSON document, by its number (the first is 1), and why."""

    line: int
    reason: str


class Imported(Struct, frozen=True):
    """What became of a file. `records` were understood and are `new`, `replaced` or `unchanged`. `rejected` lines were
    left out: the first ones are in `rejections`, all are counted in `reasons`. `known`: the same bytes were imported
    before, nothing was read. `unanswered` questions of a batch had no answer among the files. `alike` requests without
    an id say just what another one says, and are one with it. `unit` is what `Rejection.line` numbers."""

    name: str
    format: str
    title: str
    records: int = 0
    new: int = 0
    replaced: int = 0
    unchanged: int = 0
    rejected: int = 0
    rejections: tuple[Rejection, ...] = ()
    reasons: dict[str, int] = {}
    priced_from_catalog: int = 0
    unpriced: int = 0
    known: bool = False
    unanswered: int = 0
    alike: int = 0
    unit: Literal["line", "entry"] = "line"


class Reading:
    """One file on its way. `pairing` is shared by the files of one import."""

    def __init__(self, file: Input, prices: Prices, pairing: Pairing, now_ms: int) -> None:
        self.file = file
        self.format = recognise(file)
        self._prices = prices
        self._pairing = pairing
        self._now_ms = now_ms
        self._cut: tuple[str, ...] | None = None
        self._seen: Counter[str] = Counter()
        self._bucket = -1
        self._rejections: list[Rejection] = []
        self._reasons: Counter[str] = Counter()
        self._rejected = self._records = self._listed = self._unpriced = self._alike = 0
        self._added = Added()

    @property
    def remembered(self) -> bool:
        """Whether the file is skipped when it comes again. Those of a batch are not: what they say depends on which
        came together."""
        return self.format.name != "openai-batch"

    def batches(self) -> Iterator[Rows]:
        """Rows, `BATCH` at a time. Raises `Unreadable`."""
        parse = parser(self.format, self._pairing)
        usage: list[UsageDraft] = []
        requests: list[RequestDraft] = []
        for number, value in values(self.file, self.format):
            if isinstance(value, Malformed):
                self._reject(number, value)
                continue
            try:
                for draft in parse(value):
                    if isinstance(draft, Malformed):
                        self._reject(number, draft)
                    elif (bad := unfit(draft)) is not None:
                        self._reject(number, bad)
                    elif isinstance(draft, UsageDraft):
                        usage.append(draft)
                    else:
                        requests.append(draft)
            except Malformed as error:
                self._reject(number, error)
            except msgspec.ValidationError as error:
                self._reject(number, Malformed(str(error)[:200]))
            if len(usage) >= BATCH:
                yield [self._usage(draft) for draft in self._cut_up(usage)]
                usage = []
            if len(requests) >= BATCH:
                yield self._requests(requests)
                requests = []
        if usage:
            yield [self._usage(draft) for draft in self._cut_up(usage)]
        if requests:
            yield self._requests(requests)

    def added(self, counts: Added) -> None:
        """Tell what the store made of a batch."""
        self._added += counts

    @property
    def result(self) -> Imported:
        return Imported(
            name=self.file.name,
            format=self.format.name,
            title=self.format.title,
            records=self._records,
            new=self._added.new,
            replaced=self._added.replaced,
            unchanged=self._added.unchanged,
            rejected=self._rejected,
            rejections=tuple(self._rejections),
            reasons=dict(self._reasons),
            priced_from_catalog=self._listed,
            unpriced=self._unpriced,
            alike=self._alike,
            unit="entry" if layout(self.file, self.format) == "values" else "line",
        )

    def _reject(self, line: int, error: Malformed) -> None:
        self._rejected += 1
        reason = str(error)
        if len(self._rejections) < SHOWN_REJECTIONS:
            self._rejections.append(Rejection(line, f"{error.place}: {reason}" if error.place else reason))
        kind = reason.split(" = ")[0].split(" - `")[0][:80]
        known = kind in self._reasons or len(self._reasons) < KINDS_OF_REJECTION
        self._reasons[kind if known else "other reasons"] += 1

    def _cut_up(self, drafts: list[UsageDraft]) -> list[UsageDraft]:
        """What the export was grouped by is seen in its first rows: a group may have no value in some of them."""
        if self._cut is None:
            names = {name for draft in drafts for name, value in draft.dims.items() if value is not None}
            if any(draft.model is not None for draft in drafts):
                names.add("model")
            self._cut = tuple(sorted(names))
        return drafts

    def _usage(self, draft: UsageDraft) -> ImportedUsage:
        tokens = draft.tokens
        cost, priced_by = self._cost(draft)
        assert self._cut is not None, "after `_cut_up`"
        cut = f"{_width(draft.ends_at_ms - draft.starts_at_ms)} by {','.join(self._cut) or 'nothing'}"
        about = f"{draft.source}|{draft.kind}|{draft.ends_at_ms}|{cut}|{draft.model}|{sorted(draft.dims.items())}"
        if draft.starts_at_ms != self._bucket:
            self._seen.clear()
            self._bucket = draft.starts_at_ms
        self._seen[about] += 1  # exports of October 2025 have rows of one bucket that differ in nothing but the counts
        said = (draft.requests, tokens, cost, priced_by)
        self._records += 1
        return ImportedUsage(
            id=_id(draft.starts_at_ms, f"{about}|{self._seen[about]}"),
            content=_content(said),
            source=draft.source,
            kind=draft.kind,
            cut=cut,
            starts_at_ms=draft.starts_at_ms,
            ends_at_ms=draft.ends_at_ms,
            imported_at_ms=self._now_ms,
            model=draft.model,
            requests=draft.requests,
            input_tokens=tokens.input,
            cache_read_tokens=tokens.cache_read,
            cache_write_tokens=tokens.cache_write_5m + tokens.cache_write_1h,
            output_tokens=tokens.output,
            cost_nanousd=cost,
            priced_by=priced_by,
        )

    def _requests(self, drafts: list[RequestDraft]) -> list[ImportedRequest]:
        rows = [self._request(draft) for draft in drafts]
        # Within a batch: over a whole file it would take every id in memory, and in a log twins stand together.
        unnamed = [row.id for row in rows if row.external_id is None]
        self._alike += len(unnamed) - len(set(unnamed))
        return rows

    def _request(self, draft: RequestDraft) -> ImportedRequest:
        tokens = draft.tokens
        cost, priced_by = self._cost(draft)
        seen = None if draft.prompt is None or draft.prompt.isspace() else _classified(draft.prompt)
        task, confidence = (None, None) if seen is None else (seen.task_type, seen.confidence)
        if draft.task_type is not None:
            task, confidence = draft.task_type, 1.0
        rest = (
            draft.external_id, draft.created_at_ms, draft.model, draft.provider, draft.failed,
            tokens.input, tokens.cache_read, tokens.cache_write_5m + tokens.cache_write_1h, tokens.output,
            cost, priced_by, draft.latency_ms, draft.ttft_ms,
            task, confidence, None if seen is None else seen.difficulty, draft.needs, draft.conversation_id,
        )  # fmt: skip
        self._records += 1
        return ImportedRequest(
            _id(draft.created_at_ms, f"{draft.source}|{draft.key}"), _content(rest), draft.source, *rest
        )

    def _cost(self, draft: UsageDraft | RequestDraft) -> tuple[int | None, Pricer | None]:
        """What the export says, else the list price."""
        if draft.cost_nanousd is not None:
            return draft.cost_nanousd, "export"
        vendor, at = (
            (draft.source, draft.starts_at_ms)
            if isinstance(draft, UsageDraft)
            else (draft.provider, draft.created_at_ms)
        )
        if not draft.tokens.total:
            return 0, "export"
        cost = self._prices.cost(draft.model, vendor, at, draft.tokens, half=draft.half)
        self._listed += cost is not None
        self._unpriced += cost is None
        return cost, None if cost is None else "catalog"


def digest_of(file: BinaryIO) -> str:
    """SHA-256 of its bytes, in hex; leaves it at its start."""
    file.seek(0)
    found = hashlib.sha256()
    while chunk := file.read(1 << 20):
        found.update(chunk)
    file.seek(0)
    return found.hexdigest()


def in_order(inputs: list[Input]) -> list[Input]:
    """Questions of a batch before their answers, which have a `response`; otherwise as they are."""
    return sorted(inputs, key=lambda file: '"custom_id"' in file.head and '"response"' in file.head)


def _id(unix_ms: int, about: str) -> str:
    digest = hashlib.blake2b(about.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{unix_ms:011x}-{digest}"


def _content(said: object) -> int:
    return int.from_bytes(hashlib.blake2b(_encode(said), digest_size=8).digest(), signed=True)


def _width(ms: int) -> str:
    for unit, name in ((DAY_MS, "d"), (3_600_000, "h"), (60_000, "m")):
        if ms and ms % unit == 0:
            return f"{ms // unit}{name}"
    return f"{ms}ms"


@lru_cache(maxsize=1024)
def _classified(prompt: str) -> Classification:
    return classify(prompt)  # templates and retries ask the same again and again


_encode = msgspec.msgpack.Encoder().encode


def basename(path: str | os.PathLike[str]) -> str:
    """A file's name as it is kept: without its folders, which are nobody's business."""
    return os.path.basename(os.fspath(path))
