"""The audit's report as values, for the command line, the API and the page: sums, shares and percentiles of everything
that was imported and everything that went through the gateway.

Sources are kept apart, and together nothing counts twice (`overlap`). What the input can't tell is in `unknown`, and
never a zero.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date

from msgspec import Struct

from llmwise.domain.usage import TokenUsage
from llmwise.insights.audit.overlap import REPORTS, once
from llmwise.insights.audit.prices import Prices
from llmwise.insights.audit.whatif import WhatIf, from_tokens, what_if
from llmwise.insights.policy import Policy
from llmwise.routing.auto import LOW_BAR, QUALITY_BAR, AutoSettings
from llmwise.storage.audit import DAY_MS, Cell, Everything, Sampled, Timing

EXPENSIVE = "premium"
"""The tier of expensive models."""


class Sums(Struct, frozen=True):
    """`input_tokens` are all tokens of prompts, of which `cached_tokens` were read from a cache and
    `cache_write_tokens` written to it. `cost_nanousd` adds what is known; that part of it which list prices gave and
    nobody billed is `list_price_nanousd`. `unpriced` rows have no known cost, which is not free."""

    requests: int = 0
    failed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cost_nanousd: int = 0
    list_price_nanousd: int = 0
    unpriced: int = 0


class Share(Struct, frozen=True):
    """One model, task type, day or source; `share` of the known cost."""

    name: str
    sums: Sums
    share: float


class Percentiles(Struct, frozen=True):
    """By nearest rank, in ms, of `n` requests."""

    n: int
    p50_ms: int
    p95_ms: int
    p99_ms: int


class Speed(Struct, frozen=True):
    """`latency` until the answer was whole, `first_token` until it began; `None`: nobody measured it."""

    name: str
    latency: Percentiles | None
    first_token: Percentiles | None


class SimpleTasks(Struct, frozen=True):
    """Requests of the classes that Auto holds to its lowest bar, and those of them on models of the tier "premium".
    `share` of the simple requests; costs in nano-USD."""

    requests: int
    on_expensive: int
    share: float
    cost_nanousd: int
    on_expensive_nanousd: int
    models: tuple[str, ...]


class Report(Struct, frozen=True):
    """`first_day` and `last_day` as YYYY-MM-DD, `None` where there is nothing; `advice` then says what to do."""

    source: str | None
    first_day: str | None
    last_day: str | None
    totals: Sums
    sources: tuple[Share, ...]
    models: tuple[Share, ...]
    tasks: tuple[Share, ...]
    days: tuple[Share, ...]
    speed: tuple[Speed, ...]
    simple: SimpleTasks | None
    what_if: WhatIf | None
    unknown: tuple[str, ...]
    notes: tuple[str, ...]
    advice: str | None = None

    @property
    def empty(self) -> bool:
        return self.first_day is None


EMPTY = (
    "There is nothing to report yet. Import an export (`llmwise audit import FILE...`: OpenAI's or Anthropic's usage, "
    "LiteLLM's spend logs, a request log), or send traffic through the gateway."
)


def report(
    known: Everything, prices: Prices, settings: AutoSettings, source: str | None = None, policy: Policy | None = None
) -> Report:
    """All that is known, or that of one source. `policy` is the one in force for the goal of `settings`."""
    cells, timings, sample, total_requests = known.cells, known.timings, known.sample, known.sampled_of
    shown = sorted({cell.source for cell in cells})
    if source is not None:
        cells = tuple(cell for cell in cells if cell.source == source)
        timings = tuple(timing for timing in timings if timing.source == source)
        kept = tuple(one for one in sample if one.source == source)
        total_requests = round(total_requests * len(kept) / len(sample)) if sample else 0
        sample = kept
    if not cells:
        advice = EMPTY if not shown else f"Nothing of source {source!r}; there is: {', '.join(shown)}."
        nothing: tuple[Share, ...] = ()
        return Report(
            source, None, None, Sums(), nothing, nothing, nothing, nothing, (), None, None, (), (), advice=advice
        )
    counted, notes = once(cells, prices)
    totals = _sum(counted)
    logged = [cell for cell in cells if cell.source not in REPORTS]
    days = sorted({cell.day for cell in cells})
    return Report(
        source=source,
        first_day=_iso(days[0]),
        last_day=_iso(days[-1]),
        totals=totals,
        sources=_sources(cells, prices),
        models=_shares(counted, lambda cell: prices.shown(cell.model)),
        tasks=_tasks(logged, totals),
        days=tuple(sorted(_shares(counted, lambda cell: _iso(cell.day)), key=lambda share: share.name)),
        speed=_speeds(timings, prices),
        simple=_simple(logged, prices),
        what_if=_what_if(counted, total_requests, sample, prices, settings, policy),
        unknown=_unknown(cells, counted, timings, totals),
        notes=notes,
    )


def _sum(cells: Iterable[Cell]) -> Sums:
    requests = failed = fresh = read = write = output = cost = listed = unpriced = 0
    for cell in cells:
        requests += cell.requests or 0
        failed += cell.failed
        fresh += cell.input_tokens
        read += cell.cache_read_tokens
        write += cell.cache_write_tokens
        output += cell.output_tokens
        cost += cell.cost_nanousd
        listed += cell.listed_nanousd
        unpriced += cell.unpriced
    prompt = fresh + read + write
    return Sums(requests, failed, prompt, read, write, output, prompt + output, cost, listed, unpriced)


def _shares(cells: Iterable[Cell], name: Callable[[Cell], str]) -> tuple[Share, ...]:
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[name(cell)].append(cell)
    sums = {group: _sum(some) for group, some in groups.items()}
    whole = sum(one.cost_nanousd for one in sums.values())
    found = [Share(group, one, one.cost_nanousd / whole if whole > 0 else 0.0) for group, one in sums.items()]
    found = [share for share in found if share.sums != Sums()]
    return tuple(sorted(found, key=lambda share: (-share.sums.cost_nanousd, -share.sums.total_tokens, share.name)))


def _sources(cells: Sequence[Cell], prices: Prices) -> tuple[Share, ...]:
    """Each source on its own, as if there were no other."""
    alone = []
    for source in {cell.source for cell in cells}:
        sums = _sum(once([cell for cell in cells if cell.source == source], prices)[0])
        alone.append(Share(source, sums, 0.0))
    return tuple(sorted(alone, key=lambda share: (-share.sums.cost_nanousd, share.name)))


def _tasks(logged: Sequence[Cell], totals: Sums) -> tuple[Share, ...]:
    """Of requests that have a task type; the rest of the totals has none."""
    typed = [cell for cell in logged if cell.task_type is not None]
    if not typed:
        return ()
    known = _sum(typed)
    names = Sums.__struct_fields__
    rest = Sums(*(max(getattr(totals, name) - getattr(known, name), 0) for name in names))
    whole = known.cost_nanousd + rest.cost_nanousd
    shares = [
        Share(share.name, share.sums, share.sums.cost_nanousd / whole if whole > 0 else 0.0)
        for share in _shares(typed, lambda cell: cell.task_type or "")
    ]
    if rest.requests or rest.total_tokens:
        shares.append(Share("(not told)", rest, rest.cost_nanousd / whole if whole > 0 else 0.0))
    return tuple(shares)


def _speeds(timings: Sequence[Timing], prices: Prices) -> tuple[Speed, ...]:
    """All models together first, then by how many requests were timed."""
    histograms: dict[tuple[str, bool], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for timing in timings:
        for name in ("all models", prices.shown(timing.model)):
            histograms[name, timing.first][timing.ms] += timing.count
    found = [
        Speed(name, _percentiles(histograms.get((name, False))), _percentiles(histograms.get((name, True))))
        for name in {name for name, _ in histograms}
    ]

    def timed(speed: Speed) -> tuple[bool, int, str]:
        return speed.name != "all models", -(speed.latency.n if speed.latency else 0), speed.name

    return tuple(sorted(found, key=timed))


def _percentiles(histogram: Mapping[int, int] | None) -> Percentiles | None:
    if not histogram:
        return None
    n = sum(histogram.values())
    ranks = [-(-n * percent // 100) for percent in (50, 95, 99)]
    values: list[int] = []
    below = 0
    for ms in sorted(histogram):
        below += histogram[ms]
        while len(values) < len(ranks) and below >= ranks[len(values)]:
            values.append(ms)
    return Percentiles(n, *values)


def _simple(logged: Sequence[Cell], prices: Prices) -> SimpleTasks | None:
    """`None` where no request has a task type."""
    typed = [cell for cell in logged if cell.task_type is not None]
    if not typed:
        return None
    simple = [cell for cell in typed if QUALITY_BAR.get(cell.task_type or "", 1.0) <= LOW_BAR]
    dear = [cell for cell in simple if _tier(cell.model, prices) == EXPENSIVE]
    all_of, some = _sum(simple), _sum(dear)
    return SimpleTasks(
        requests=all_of.requests,
        on_expensive=some.requests,
        share=some.requests / all_of.requests if all_of.requests else 0.0,
        cost_nanousd=all_of.cost_nanousd,
        on_expensive_nanousd=some.cost_nanousd,
        models=tuple(sorted({prices.shown(cell.model) for cell in dear})),
    )


def _tier(model: str | None, prices: Prices) -> str | None:
    card = None if model is None else prices.card(model)
    return None if card is None else card.tier


def _what_if(
    counted: Sequence[Cell],
    total: int,
    sample: Sequence[Sampled],
    prices: Prices,
    settings: AutoSettings,
    policy: Policy | None,
) -> WhatIf:
    found = what_if(total, sample, prices, settings, policy) if sample else None
    if found is not None:
        return found
    tokens: dict[str, TokenUsage] = defaultdict(TokenUsage)
    for cell in counted:
        if cell.model is not None and cell.kind == "tokens":
            tokens[cell.model] += TokenUsage(
                input=cell.input_tokens,
                cache_read=cell.cache_read_tokens,
                cache_write_5m=cell.cache_write_tokens,
                output=cell.output_tokens,
            )
    return from_tokens(tokens, prices, settings, max(cell.day for cell in counted) * DAY_MS)


def _unknown(
    cells: Sequence[Cell], counted: Sequence[Cell], timings: Sequence[Timing], totals: Sums
) -> tuple[str, ...]:
    found = []
    if any(cell.requests is None and cell.kind == "tokens" for cell in counted):
        found.append("Requests: Anthropic's reports do not count them, so the number is too low.")
    elif all(cell.kind == "cost" for cell in counted):
        found.append("Requests and tokens: a cost export has amounts alone.")
    if all(cell.task_type is None for cell in cells):
        found.append("Task types and simple tasks on expensive models: there are no prompts in the input.")
    elif any(cell.task_type is None and (cell.requests or 0) > cell.failed for cell in cells):
        found.append("Task types of some requests: they came without their prompts.")
    if not timings:
        found.append("Latency and first token: the input has no times of single requests.")
    elif not any(timing.first for timing in timings):
        found.append("First token: the input has no time of it.")
    if any(cell.model is None and (cell.output_tokens or cell.cost_nanousd) for cell in counted):
        found.append("Models of a part of it: the export was not grouped by model.")
    if totals.unpriced:
        found.append(f"What {totals.unpriced:,} rows cost: no price is known, so the spend is too low.")
    if totals.list_price_nanousd:
        found.append(
            f"What ${totals.list_price_nanousd / 1e9:,.2f} of the spend really cost: the export names no amounts, so "
            "it is tokens at list prices, without your discounts."
        )
    return tuple(found)


def _iso(day: int) -> str:
    return date.fromordinal(date(1970, 1, 1).toordinal() + day).isoformat()
