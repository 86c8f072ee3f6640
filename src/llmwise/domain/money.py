"""Money as integers of nano-USD (1 USD = 1,000,000,000). Floats appear only at the edge, for display."""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import NewType

NanoUSD = NewType("NanoUSD", int)

NANO_PER_USD = 1_000_000_000
CREDITS_PER_USD = 100


def from_usd(usd: Decimal | str | int | float) -> NanoUSD:
    """The nearest nano-USD; a float is read as it prints, so that 0.15 is 0.15."""
    amount = usd if isinstance(usd, Decimal) else Decimal(str(usd))
    return NanoUSD(int((amount * NANO_PER_USD).to_integral_value(ROUND_HALF_EVEN)))


def to_usd(amount: int) -> float:
    """For display and JSON: nine decimals are exact."""
    return amount / NANO_PER_USD


def to_credits(amount: int) -> float:
    """100 credits are one dollar."""
    return amount * CREDITS_PER_USD / NANO_PER_USD


def divide_rounded(numerator: int, denominator: int) -> int:
    """The one rounding rule: to the nearest integer, halves to even. `denominator` is positive.

    >>> [divide_rounded(n, 2) for n in (1, 2, 3, -1)]
    [0, 1, 2, 0]
    """
    quotient, remainder = divmod(numerator, denominator)
    double = 2 * remainder
    return quotient + (double > denominator or (double == denominator and quotient & 1))
