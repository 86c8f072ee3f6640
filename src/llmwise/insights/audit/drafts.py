"""What a format's parser makes of a line: a draft, which the importer prices and gives an id.

Counting conventions end here: a draft has disjoint token buckets (`TokenUsage`), times are Unix milliseconds, money is
integer nano-USD. What the export does not say is `None`.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from msgspec import Struct

from llmwise.domain.money import NANO_PER_USD, from_usd
from llmwise.domain.usage import TokenUsage
from llmwise.storage.audit import UsageKind

MOST_TOKENS = 10**12
"""Of one request or bucket. A count beyond it is a mistake, and at the dearest list price no 64-bit amount of money."""
MOST_USD = 1_000_000
"""Of one request or bucket: an amount beyond it is a mistake."""


class Malformed(Exception):
    """One line is not what its format promises; the reason is for people. `place` is where in a line that holds many
    ("bucket 3, result 2"), empty for all of it."""

    place = ""

    def at(self, place: str) -> "Malformed":
        """The same, with its place."""
        self.place = place
        return self


class UsageDraft(Struct, frozen=True):
    """A bucket. `dims` is what the export grouped by, in its words, with its model; `None` where it did not. `half`:
    billed at half the list price (a batch)."""

    source: str
    kind: UsageKind
    starts_at_ms: int
    ends_at_ms: int
    model: str | None
    dims: Mapping[str, str | None]
    requests: int | None
    tokens: TokenUsage
    cost_nanousd: int | None = None
    half: bool = False


class RequestDraft(Struct, frozen=True, gc=False):
    """One request. `key` is unique among the requests of its source: the same key again is the same request. `prompt`
    is classified and then forgotten."""

    source: str
    key: str
    created_at_ms: int
    model: str | None
    tokens: TokenUsage
    external_id: str | None = None
    provider: str | None = None
    failed: bool = False
    cost_nanousd: int | None = None
    half: bool = False
    latency_ms: int | None = None
    ttft_ms: int | None = None
    prompt: str | None = None
    task_type: str | None = None
    needs: str | None = None
    conversation_id: str | None = None


def count(value: Any, name: str) -> int:
    """Tokens or requests: `12`, `"12"`, `12.0` (OpenAI's CSV); absent or empty is 0. Raises `Malformed`."""
    if value is None or value == "":
        return 0
    try:
        whole = value if type(value) is int else int(value) if isinstance(value, str) and value.isdigit() else None
        if whole is None:
            number = Decimal(str(value))
            whole = int(number)
            if number != whole:
                raise ValueError
    except (ValueError, InvalidOperation, OverflowError):
        raise Malformed(f"{name} = {str(value)[:40]!r}: not a whole number") from None
    if not 0 <= whole <= MOST_TOKENS:
        raise Malformed(f"{name} = {whole}: not between 0 and {MOST_TOKENS}")
    return whole


def part(whole: int, some: int, name: str) -> int:
    """What is left of `whole` without its part `some`. Raises `Malformed` for a part that is larger."""
    if some > whole:
        raise Malformed(f"{name} = {some}: more than the {whole} that it is a part of")
    return whole - some


def money(value: Any, name: str, *, unit: int = 1) -> int | None:
    """Nano-USD of an amount in USD, or in 1/`unit` of one (cents: 100); `None` for none. Negative amounts are credits,
    which a report has and a request has not: see `paid`. Raises `Malformed`."""
    if value is None or value == "":
        return None
    try:
        amount = Decimal(str(value)) / unit
        if not amount.is_finite():
            raise ValueError
        nano = from_usd(amount)
    except (ValueError, InvalidOperation):
        raise Malformed(f"{name} = {str(value)[:40]!r}: not an amount of money") from None
    if abs(nano) > MOST_USD * NANO_PER_USD:
        raise Malformed(f"{name} = {str(value)[:40]}: over {MOST_USD:,} USD in one line")
    return nano


def paid(value: Any, name: str) -> int | None:
    """Nano-USD that one request cost: never below 0. Raises `Malformed`."""
    nano = money(value, name)
    if nano is not None and nano < 0:
        raise Malformed(f"{name} = {str(value)[:40]}: a request costs nothing or more")
    return nano


def unfit(draft: "UsageDraft | RequestDraft") -> Malformed | None:
    """What is wrong with text that a database or a page can't hold: control characters, half a pair."""
    for name in _NAMES:
        text = getattr(draft, name, None)
        if text is not None and not text.isprintable() and _UNFIT.search(text):
            return Malformed(f"{name} = {text[:40]!r}: has control characters")
    return None


_NAMES = ("model", "provider", "external_id", "conversation_id")
_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def moment(value: Any, name: str) -> int:
    """Unix ms of a Unix time in seconds, an ISO 8601 time (without an offset: UTC) or a date. Raises `Malformed`."""
    try:
        if type(value) is str and len(value) > 18 and value[10] in "T ":  # as nearly all are
            at = datetime.fromisoformat(value)
            return _plausible(round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _plausible(round(value * 1000))
        text = str(value).strip()
        if text.replace(".", "", 1).isdigit() and len(text) >= 9:
            return _plausible(round(float(text) * 1000))
        if len(text) == 10:
            day = date.fromisoformat(text)
            return _plausible((day.toordinal() - _EPOCH) * DAY_MS)
        at = datetime.fromisoformat(text)
        return _plausible(round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000))
    except (ValueError, OverflowError, OSError):
        raise Malformed(f"{name} = {str(value)[:40]!r}: not a time") from None


def _plausible(unix_ms: int) -> int:
    if not 0 <= unix_ms < _YEAR_2100_MS:
        raise ValueError
    return unix_ms


DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()
_YEAR_2100_MS = 4_102_444_800_000
