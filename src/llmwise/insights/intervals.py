"""Estimates with intervals, for rows that come in conversations and with unequal weights.

Everything is in closed form, so that an estimate of a million rows is one pass and the same each time. A conversation
is the unit that is drawn at random: its turns resemble each other, and counting each as a row of its own makes
intervals too narrow. The linearised (sandwich) variance used here is what a bootstrap over conversations tends to.

    mean          sum(w x) / sum(w)
    variance      G / (G - 1) * sum over conversations of (sum of w (x - mean) / sum(w))^2     of G conversations
    effective n   sum(w)^2 / sum(W^2)       Kish, 1965, of the W = sum of w in each conversation: so many equally
                                            weighted conversations are worth as much

With w = 1 / propensity the mean is the self-normalised inverse propensity estimate: what the mean would have been, had
the rows been drawn at random and not chosen by a router that knows which are easy.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from statistics import NormalDist

from msgspec import Struct

LEVEL = 0.95
"""Nominal coverage of two-sided intervals."""


class Interval(Struct, frozen=True):
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


BOUNDLESS = 1e12
"""Stands for infinity in what is stored: JSON has none."""


class Estimate(Struct, frozen=True):
    """A value with its interval. `n` rows went in, worth `n_eff` equally weighted conversations; `se` is the
    standard error, `BOUNDLESS` for one conversation alone, which says nothing of others."""

    value: float
    interval: Interval
    se: float
    n: int
    n_eff: float


def quantile_z(level: float, comparisons: int = 1, *, sides: int = 2) -> float:
    """How many standard errors an interval reaches, so that all of `comparisons` hold at once at `level` (Bonferroni:
    (1 - level) is shared out among them). `sides=1` for a bound on one side."""
    return -NormalDist().inv_cdf((1 - level) / comparisons / sides)


def student(z: float, freedom: float) -> float:
    """The quantile of Student's t where the normal one is `z` (Cornish-Fisher, two terms: off by under 1% from 5
    degrees of freedom on, and by less beyond)."""
    nu = max(freedom, 2.0)
    return z + (z**3 + z) / (4 * nu) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * nu**2)


def wilson(successes: float, n: float, z: float) -> Interval:
    """Wilson's score interval of a rate (1927). `n` may be fractional: an effective number. (0, 1) for n = 0."""
    if n <= 0:
        return Interval(0.0, 1.0)
    p = min(max(successes / n, 0.0), 1.0)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At 0 and 1 the bound is exact; rounding must not push it inside.
    return Interval(0.0 if p == 0 else max(0.0, centre - reach), 1.0 if p == 1 else min(1.0, centre + reach))


def mean(
    values: Sequence[float],
    weights: Sequence[float] | None = None,
    conversations: Sequence[Hashable] | None = None,
    *,
    level: float = LEVEL,
    comparisons: int = 1,
    unit: bool = False,
) -> Estimate | None:
    """The weighted mean of `values`, `None` if there is none. `conversations` names each row's; absent: each row is its
    own. `unit`: values lie in 0..1 and the interval stays within (Wilson's form, with the number of rows that the
    variance is worth)."""
    if not values:
        return None
    n = len(values)
    w = weights if weights is not None else [1.0] * n
    total = math.fsum(w)
    value = math.fsum(map(_product, w, values)) / total
    se, n_eff = _spread(values, w, conversations, value, total)
    z = student(quantile_z(level, comparisons), n_eff - 1)
    if unit:
        interval = _unit_interval(value, se, n_eff, z)
    elif math.isfinite(se):
        interval = Interval(value - z * se, value + z * se)
    else:
        interval = Interval(-BOUNDLESS, BOUNDLESS)
    return Estimate(value, interval, min(se, BOUNDLESS), n, n_eff)


def quantile(
    values: Sequence[float],
    q: float,
    conversations: Sequence[Hashable] | None = None,
    *,
    level: float = LEVEL,
    comparisons: int = 1,
) -> Estimate | None:
    """The q-quantile (nearest rank) with Woodruff's interval (1952): the quantiles at the ends of the interval of the
    share of rows below. Needs no density, and conversations count as in `mean`. `se` is a quarter of the width at
    95%, for display."""
    if not values:
        return None
    ordered = sorted(values)
    at = nearest_rank(ordered, q)
    share = mean(
        [float(value <= at) for value in values], None, conversations, level=level, comparisons=comparisons, unit=True
    )
    assert share is not None, "there are values"
    half_low, half_high = share.value - share.interval.low, share.interval.high - share.value
    interval = Interval(nearest_rank(ordered, max(q - half_low, 0.0)), nearest_rank(ordered, min(q + half_high, 1.0)))
    return Estimate(at, interval, (interval.high - interval.low) / 4, len(ordered), share.n_eff)


def nearest_rank(ordered: Sequence[float], q: float) -> float:
    """The smallest value with at least the share `q` of all at or below it."""
    return ordered[min(max(math.ceil(q * len(ordered)) - 1, 0), len(ordered) - 1)]


def shrunk(value: float, n: float, towards: float, pseudo: float) -> float:
    """`value` of `n` rows drawn towards a prior that counts as `pseudo` rows."""
    return (value * n + towards * pseudo) / (n + pseudo)


def _product(a: float, b: float) -> float:
    return a * b


def _spread(
    values: Sequence[float],
    weights: Sequence[float],
    conversations: Sequence[Hashable] | None,
    value: float,
    total: float,
) -> tuple[float, float]:
    """(standard error, effective number of conversations)."""
    if conversations is None or len(set(conversations)) == len(conversations):  # sums over ones
        parts = [w * (x - value) for w, x in zip(weights, values, strict=True)]
        sizes: Iterable[float] = weights
    else:
        sums: dict[Hashable, float] = defaultdict(float)
        whole: dict[Hashable, float] = defaultdict(float)
        for w, x, conversation in zip(weights, values, conversations, strict=True):
            sums[conversation] += w * (x - value)
            whole[conversation] += w
        parts, sizes = list(sums.values()), whole.values()
    n_eff = total * total / math.fsum([size * size for size in sizes])
    groups = len(parts)
    if groups < 2:
        return math.inf, n_eff
    return math.sqrt(math.fsum([part * part for part in parts]) * groups / (groups - 1)) / total, n_eff


def _unit_interval(value: float, se: float, n_eff: float, z: float) -> Interval:
    """Wilson's form for a mean of numbers in 0..1. Where nothing varied (all right, all wrong) the variance says
    nothing and the effective number stands in."""
    if se == 0 or not math.isfinite(se):
        return wilson(value * n_eff, n_eff, z)
    worth = value * (1 - value) / se**2
    return wilson(value * worth, worth, z)
