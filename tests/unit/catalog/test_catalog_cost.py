"""Laws of the only place that computes money, and a second opinion on its figures."""

from datetime import UTC, datetime

import msgspec
import pytest
from genai_prices.data import providers
from genai_prices.types import Usage
from hypothesis import given
from hypothesis import strategies as st

from llmwise.catalog.cost import TOKENS_PER_RATE, cost, estimate, estimate_tokens
from llmwise.catalog.prices import PriceFile, read
from llmwise.catalog.refresh import VENDORS
from llmwise.catalog.rows import BuiltinModel, read_models
from llmwise.domain.models import Rate
from llmwise.domain.usage import TokenUsage

TOKENS = st.integers(0, 5_000_000)
PRICES = st.integers(0, 200_000_000_000)
BUCKETS = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
USAGES = st.builds(TokenUsage, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)


def flat_rates() -> st.SearchStrategy[Rate]:
    maybe = st.none() | PRICES
    return st.builds(Rate, PRICES, PRICES, maybe, maybe, maybe)


def only(bucket: str, tokens: int) -> TokenUsage:
    return msgspec.structs.replace(TokenUsage(), **{bucket: tokens})


def test_a_request_costs_its_tokens_at_their_prices() -> None:
    rate = Rate(1_750_000_000, 14_000_000_000, cache_read=175_000_000)  # USD 1.75, 14 and 0.175 a million
    assert cost(TokenUsage(input=1000, cache_read=2000, output=500), rate) == 1_750_000 + 350_000 + 7_000_000


def test_without_a_rate_the_cost_is_unknown_and_not_nothing() -> None:
    assert cost(TokenUsage(input=1000), None) is None
    assert estimate(1000, 10, None) is None


def test_zero_is_a_price() -> None:
    rate = Rate(1_000_000_000, 1_000_000_000, cache_read=0, cache_write_5m=0, cache_write_1h=0)
    assert cost(TokenUsage(cache_read=1000, cache_write_5m=1000, cache_write_1h=1000), rate) == 0


@pytest.mark.parametrize("bucket", ["cache_read", "cache_write_5m", "cache_write_1h"])
def test_a_cache_price_that_is_not_stated_is_the_input_price(bucket: str) -> None:
    rate = Rate(3_000_000_000, 15_000_000_000)
    assert cost(only(bucket, 1000), rate) == cost(TokenUsage(input=1000), rate)


def test_reasoning_is_a_part_of_the_output_and_is_not_billed_again() -> None:
    rate = Rate(1_000_000_000, 2_000_000_000)
    assert cost(TokenUsage(output=100, reasoning=90), rate) == cost(TokenUsage(output=100), rate)


def test_a_prompt_over_the_threshold_is_billed_as_a_whole_at_the_rate_above() -> None:
    highest = Rate(4, 4)
    rate = Rate(1, 1, threshold=100, above=Rate(2, 2, threshold=1000, above=highest))
    scale = TOKENS_PER_RATE

    def spent(prompt: int) -> int | None:
        return cost(TokenUsage(cache_read=prompt * scale), _scaled(rate, scale))

    assert [spent(prompt) for prompt in (100, 101, 1000, 1001)] == [100, 202, 2000, 4004]


def _scaled(rate: Rate, scale: int) -> Rate:
    above = None if rate.above is None else _scaled(rate.above, scale)
    threshold = None if rate.threshold is None else rate.threshold * scale
    return Rate(rate.input, rate.output, threshold=threshold, above=above)


@given(USAGES, flat_rates())
def test_a_cost_is_never_negative(usage: TokenUsage, rate: Rate) -> None:
    spent = cost(usage, rate)
    assert spent is not None
    assert spent >= 0


@given(USAGES, flat_rates(), st.sampled_from(BUCKETS), TOKENS)
def test_more_tokens_never_cost_less(usage: TokenUsage, rate: Rate, bucket: str, more: int) -> None:
    assert _known(usage + only(bucket, more), rate) >= _known(usage, rate)


@given(USAGES, USAGES, flat_rates())
def test_costs_add_up_but_for_one_rounding_each(one: TokenUsage, other: TokenUsage, rate: Rate) -> None:
    assert abs(_known(one + other, rate) - _known(one, rate) - _known(other, rate)) <= 1


@given(USAGES, flat_rates())
def test_each_bucket_is_billed_once(usage: TokenUsage, rate: Rate) -> None:
    alone = [_known(only(bucket, getattr(usage, bucket)), rate) for bucket in BUCKETS]
    assert abs(_known(usage, rate) - sum(alone)) <= len(BUCKETS) / 2 + 0.5


def _known(usage: TokenUsage, rate: Rate) -> int:
    spent = cost(usage, rate)
    assert spent is not None
    return spent


SOLD = [model for model in read_models() if model.vendor in VENDORS]


@pytest.fixture(scope="module")
def prices() -> PriceFile:
    return read()


@pytest.mark.parametrize("model", SOLD, ids=lambda model: model.id)
def test_genai_prices_comes_to_the_same_sum(model: BuiltinModel, prices: PriceFile) -> None:
    """To the nano-dollar, at the hours and on both sides of the days at which a price changes."""
    schedule = prices.schedule(model.vendor, model.upstream)
    assert schedule is not None
    provider = next(p for p in providers if p.id == VENDORS[model.vendor])
    theirs = provider.find_model(model.upstream)
    assert theirs is not None
    for moment in (
        datetime(2026, 11, 22, 0, 30, tzinfo=UTC),
        datetime(2026, 11, 24, 1, 0, tzinfo=UTC),
        datetime(2026, 11, 24, 3, 59, tzinfo=UTC),
        datetime(2026, 11, 24, 12, 0, tzinfo=UTC),
        datetime(2026, 12, 31, 23, 59, tzinfo=UTC),
        datetime(2027, 1, 1, 0, 0, tzinfo=UTC),
    ):
        for usage in (
            TokenUsage(input=1234, output=567),
            TokenUsage(input=7, cache_read=99_991, output=1),
            TokenUsage(input=31_999, cache_write_5m=1003, cache_write_1h=2017, output=4099),
            TokenUsage(input=199_999, output=333),
            TokenUsage(input=272_001, cache_read=50_000, output=333),
        ):
            asked = Usage(
                input_tokens=usage.prompt,
                cache_read_tokens=usage.cache_read,
                cache_write_tokens=usage.cache_write_5m + usage.cache_write_1h,
                cache_write_5m_tokens=usage.cache_write_5m,
                cache_write_1h_tokens=usage.cache_write_1h,
                output_tokens=usage.output,
            )
            total = theirs.calc_price(asked, provider, genai_request_timestamp=moment).total_price
            ours = cost(usage, schedule.at(int(moment.timestamp() * 1000)))
            assert ours is not None
            assert abs(ours - total * 10**9) <= 0.501, (moment, usage)  # a few of its prices have endless decimals


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("汉字", 2), ("привет", 4), ("🙂" * 8, 11), ("\ud800", 1)],
)
def test_tokens_are_a_quarter_of_a_letter_and_a_whole_chinese_character(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


@given(st.text(max_size=300), st.integers(20, 60))
def test_a_sample_speaks_for_a_long_text(text: str, times: int) -> None:
    """Sampling a repetitive text is off by no more than what the samples' ends cut."""
    long = (text + "é") * times * 20
    exact = (3 * len(long.encode()) - len(long)) / 8
    assert estimate_tokens(long) == pytest.approx(exact, rel=0.35, abs=2)


@given(st.text(max_size=2000))
def test_an_estimate_lies_between_a_quarter_and_eleven_eighths_of_the_characters(text: str) -> None:
    assert len(text) / 4 <= estimate_tokens(text) <= len(text) * 11 / 8 + 1
