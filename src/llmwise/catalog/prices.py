"""List prices by vendor and model, as they stand in the committed `prices.json`.

The figures are those of the `genai-prices` package. Importing that costs 0.4 s and 27 MB, a third of what the gateway
may take to start and a quarter of its memory at rest; this file holds the same figures for the vendors that we know and
is read in a few milliseconds. `refresh.py` writes it, and a test compares the two.
"""

from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from llmwise.domain.models import Rate

DAY_MS = 86_400_000
MINUTE_MS = 60_000


class Price(Struct, frozen=True, omit_defaults=True):
    """A rate and when it holds: from the day `since` on (UTC), or every day in the minutes `daily` of the UTC day (the
    end is outside; an end before the start lies past midnight). Both absent: always."""

    rate: Rate
    since: date | None = None
    daily: tuple[int, int] | None = None

    def holds(self, unix_ms: int) -> bool:
        if self.since is not None:
            return unix_ms >= _midnight_ms(self.since)
        if self.daily is not None:
            start, end = self.daily
            minute = unix_ms % DAY_MS // MINUTE_MS
            return start <= minute < end if start <= end else minute >= start or minute < end
        return True


class Schedule(Struct, frozen=True):
    """The prices of one model over time. The last one that holds is the one that counts; the first holds always."""

    prices: tuple[Price, ...]

    @property
    def steady(self) -> bool:
        """Whether the price is the same at every time."""
        return len(self.prices) == 1

    def at(self, unix_ms: int) -> Rate:
        for price in reversed(self.prices):
            if price.holds(unix_ms):
                return price.rate
        return self.prices[0].rate


class PriceFile(Struct, frozen=True):
    """`prices.json`: where the figures are from, the day on which they were taken, and per vendor and model, in lower
    case, the prices. Rows stay undecoded until asked for: a gateway needs a hundred of some thousand."""

    source: str
    taken: date
    prices: dict[str, dict[str, Raw]]

    def schedule(self, vendor: str, model: str) -> Schedule | None:
        """The prices of `model` at `vendor`, or `None` where none are known, which is not free."""
        row = self.prices.get(vendor, {}).get(model.lower())
        return None if row is None else Schedule(_ROW.decode(row))


_FILE = msgspec.json.Decoder(PriceFile)
_ROW = msgspec.json.Decoder(tuple[Price, ...])


def read(path: Path | None = None) -> PriceFile:
    """The prices of `path`, or those that came with the package. Raises `OSError` and `msgspec.DecodeError`."""
    return _FILE.decode((path or Path(__file__).with_name("prices.json")).read_bytes())


def _midnight_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
