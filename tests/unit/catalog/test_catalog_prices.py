"""The committed prices: what they hold, when each one counts, and that they are those of their source."""

from datetime import UTC, date, datetime
from importlib.metadata import version

import msgspec
import pytest

from llmwise.catalog import refresh
from llmwise.catalog.prices import Price, PriceFile, Schedule, read
from llmwise.catalog.rows import read_models
from llmwise.domain.models import Rate

BASE, NIGHT, LATER = Rate(1, 1), Rate(2, 2), Rate(3, 3)


def at(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]  # year to minute


def test_the_file_is_what_genai_prices_says() -> None:
    file = read()
    if file.source != f"genai-prices {version('genai-prices')}":
        pytest.skip("another genai-prices is installed: python -m llmwise.catalog.refresh")
    expected = refresh.collect(file.taken)
    kept = {
        vendor: {name: schedule.prices for name in models if (schedule := file.schedule(vendor, name)) is not None}
        for vendor, models in file.prices.items()
    }
    assert kept == expected


def test_every_built_in_model_that_is_sold_has_a_price() -> None:
    file = read()
    assert [m.id for m in read_models() if not m.free and file.schedule(m.vendor, m.upstream) is None] == []


def test_a_price_that_nobody_knows_is_none() -> None:
    assert read().schedule("openai", "gpt-0") is None
    assert read().schedule("nobody", "gpt-5.2") is None


def test_the_last_price_that_holds_counts_and_the_first_holds_always() -> None:
    schedule = Schedule((Price(BASE), Price(NIGHT, daily=(60, 240)), Price(LATER, since=date(2027, 1, 1))))
    assert not schedule.steady
    moments = [at(2026, 12, 31, 0, 59), at(2026, 12, 31, 1, 0), at(2026, 12, 31, 3, 59), at(2026, 12, 31, 4, 0)]
    assert [schedule.at(moment) for moment in moments] == [BASE, NIGHT, NIGHT, BASE]
    assert schedule.at(at(2026, 12, 31, 23, 59)) == BASE
    assert schedule.at(at(2027, 1, 1)) == LATER


def test_a_night_price_may_span_midnight() -> None:
    schedule = Schedule((Price(BASE), Price(NIGHT, daily=(23 * 60, 60))))
    moments = [at(2026, 1, 1, 22, 59), at(2026, 1, 1, 23, 0), at(2026, 1, 2, 0, 59), at(2026, 1, 2, 1, 0)]
    assert [schedule.at(moment) for moment in moments] == [BASE, NIGHT, NIGHT, BASE]


def test_a_refresh_writes_what_is_read_back() -> None:
    taken = date(2026, 11, 22)
    prices = {"v": {"m": (Price(Rate(1, 2, 0, threshold=10, above=Rate(3, 4))), Price(BASE, daily=(1, 2)))}}
    written = refresh.render(prices, "test", taken)
    file = msgspec.json.decode(written, type=PriceFile)
    schedule = file.schedule("v", "M")
    assert schedule is not None
    assert schedule.prices == prices["v"]["m"]
    assert (file.source, file.taken) == ("test", taken)
