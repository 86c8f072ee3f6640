"""Tokens, in buckets that never overlap.

OpenAI and Gemini count cached tokens inside the prompt's, Anthropic beside them: adapters turn both into these
buckets, and nothing after them asks again.
"""

from msgspec import Struct

MOST_TOKENS = 10**10
"""In a bucket: more than any answer has, and few enough that counts and costs fit into the 64 bits they are kept in."""


class TokenUsage(Struct, frozen=True, gc=False):
    """Tokens of one attempt. Every input token is in exactly one input bucket, every output token in `output`;
    `reasoning` says how many of `output` were thinking. `estimated` marks a count that no provider reported."""

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    estimated: bool = False

    @classmethod
    def reported(
        cls,
        input: int = 0,
        cache_read: int = 0,
        cache_write_5m: int = 0,
        cache_write_1h: int = 0,
        output: int = 0,
        reasoning: int = 0,
    ) -> "TokenUsage":
        """By a provider, which may say any number: each bucket has from 0 to `MOST_TOKENS`."""
        said = (input, cache_read, cache_write_5m, cache_write_1h, output, reasoning)
        if min(said) < 0 or max(said) > MOST_TOKENS:
            bounded = (min(max(count, 0), MOST_TOKENS) for count in said)
            input, cache_read, cache_write_5m, cache_write_1h, output, reasoning = bounded
        return cls(input, cache_read, cache_write_5m, cache_write_1h, output, reasoning)

    @property
    def prompt(self) -> int:
        """All input tokens, cached or not: what OpenAI calls `prompt_tokens`."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h

    @property
    def total(self) -> int:
        return self.prompt + self.output

    def __add__(self, other: "TokenUsage") -> "TokenUsage":
        return TokenUsage(
            self.input + other.input,
            self.cache_read + other.cache_read,
            self.cache_write_5m + other.cache_write_5m,
            self.cache_write_1h + other.cache_write_1h,
            self.output + other.output,
            self.reasoning + other.reasoning,
            self.estimated or other.estimated,
        )
