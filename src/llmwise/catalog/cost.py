"""What tokens cost: the only place where a price meets a count.

Money is whole nano-USD and is rounded once, at the end (`money.divide_rounded`): a sum of costs is off from the exact
sum by at most half a nano-dollar for each term.
"""

from llmwise.domain.models import Rate
from llmwise.domain.money import divide_rounded
from llmwise.domain.usage import TokenUsage

TOKENS_PER_RATE = 1_000_000
_SAMPLE_CHARS = 1_000
_SAMPLES = 4


def cost(usage: TokenUsage, rate: Rate | None) -> int | None:
    """The price of `usage` in nano-USD; `None` without a rate, which is not free.

    A prompt longer than the rate's threshold is billed as a whole, answer included, at the rate above it, as Google,
    OpenAI and Anthropic do (https://ai.google.dev/gemini-api/docs/pricing, read 2026-11-22). `reasoning` is a part of
    `output` and adds nothing.
    """
    if rate is None:
        return None
    while rate.threshold is not None and rate.above is not None and usage.prompt > rate.threshold:
        rate = rate.above
    price = rate.input
    total = usage.input * price + usage.output * rate.output
    if usage.cache_read:
        total += usage.cache_read * (price if rate.cache_read is None else rate.cache_read)
    if usage.cache_write_5m:
        total += usage.cache_write_5m * (price if rate.cache_write_5m is None else rate.cache_write_5m)
    if usage.cache_write_1h:
        total += usage.cache_write_1h * (price if rate.cache_write_1h is None else rate.cache_write_1h)
    return divide_rounded(total, TOKENS_PER_RATE)


def estimate(prompt_tokens: int, output_tokens: int, rate: Rate | None) -> int | None:
    """What a request would cost in nano-USD if nothing of it were cached."""
    return cost(TokenUsage(input=prompt_tokens, output=output_tokens), rate)


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` is: four letters of English a token, one for each Chinese, Japanese or Korean
    character, and in between for other scripts, by the length of their UTF-8.

    With c characters in b bytes that is (3b - c) / 8: a quarter for a character of one byte, 5/8 for two, 1 for three.
    Costs the same however long the text is: of long text that isn't ASCII four thousand characters are looked at.
    """
    characters = len(text)
    if text.isascii():  # a flag that the string carries
        return (characters + 3) // 4
    if characters <= _SAMPLES * _SAMPLE_CHARS:
        return (3 * len(text.encode("utf-8", "surrogatepass")) - characters + 7) // 8
    step = (characters - _SAMPLE_CHARS) // (_SAMPLES - 1)
    sample = "".join(text[start : start + _SAMPLE_CHARS] for start in range(0, step * (_SAMPLES - 1) + 1, step))
    return -(-estimate_tokens(sample) * characters // len(sample))
