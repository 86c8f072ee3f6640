"""Numbers as people read them, the same in the terminal and on the page."""

from llmwise.insights.audit.whatif import Scenario
from llmwise.insights.intervals import Interval

UNITS = ((1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k"))


def usd(nano: int | float) -> str:
    """$1,234, $12.50, $0.012, <$0.0001, and exact zero as $0."""
    amount = nano / 1e9
    if amount == 0:
        return "$0"
    if 0 < amount < 0.0001:
        return "<$0.0001"
    places = 0 if abs(amount) >= 1000 else 2 if abs(amount) >= 1 else 3 if abs(amount) >= 0.01 else 4
    return f"${amount:,.{places}f}" if amount > 0 else f"-${-amount:,.{places}f}"


def tokens(count: int) -> str:
    """12.3M, 45k, 9,120."""
    for size, unit in UNITS:
        if count >= size:
            short = count / (1000 if unit == "k" else size)
            return f"{short:,.1f}{unit}" if short < 100 else f"{short:,.0f}{unit}"
    return f"{count:,}"


def percent(share: float) -> str:
    return f"{share:.1%}" if 0 < abs(share) < 0.1 else f"{share:.0%}"


def between(interval: Interval | None) -> str:
    return "" if interval is None else f"{percent(interval.low)} to {percent(interval.high)}"


def ms(value: int) -> str:
    return f"{value:,} ms" if value < 10_000 else f"{value / 1000:,.1f} s"


def called(scenario: Scenario) -> str:
    """A scenario's name with its model, where it is one."""
    if scenario.name == "best single":
        return f"best single: {next(iter(scenario.models))}"
    return {"today": "today", "auto": "Auto", "random": "same models by lot"}.get(scenario.name, scenario.name)
