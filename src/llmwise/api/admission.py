"""Credit for a request: set aside before it runs, replaced by what it cost when it has ended. Every endpoint that calls
a model passes here, between its plan and its run:

    reserve     402 when a budget is spent, 429 when the key's tokens or places are
    settle      at every end, by the ledger: charged is what `settlement.TERMS` puts on the caller, times the margin

What is set aside is the prompt's estimate and the most output that was allowed and the model can write, at the dearest
target of the plan, and for several models at once the sum over them; at least the mode's minimum. Keys without any
budget set nothing aside.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec.json import encode

from llmwise.api.http import Caller
from llmwise.api.limits import limited
from llmwise.api.services import Services
from llmwise.catalog.cost import estimate, estimate_tokens
from llmwise.domain.errors import OutOfCredit
from llmwise.domain.messages import Document
from llmwise.domain.money import CREDITS_PER_USD, NANO_PER_USD, divide_rounded, to_credits, to_usd
from llmwise.domain.records import AttemptRecord, LedgerEntry, Mode, RequestRecord
from llmwise.domain.requests import ChatRequest, Request
from llmwise.orchestration.settlement import Ledger, owed_nanousd
from llmwise.routing.needs import needs_of
from llmwise.state.port import Claim, SharedState, Standing, Verdict

log = logging.getLogger(__name__)

MINIMUM_CREDITS: dict[Mode, int] = {"chat": 1, "compare": 2, "blend": 4, "judge": 5}
MAX_OUTPUT_TOKENS = 4096
"""Set aside for a request that doesn't say `max_tokens` to a model whose own bound isn't known."""

PROMPT_ERROR = 1.25
"""The prompt's tokens are an estimate: what is set aside errs on the dear side."""

DOCUMENT_TOKENS = 10_000
"""Of a document that isn't in the request; of one that is, a token for each 10 characters of its base64. A page of PDF
is 1,500 to 3,000 tokens (https://docs.claude.com/en/docs/build-with-claude/pdf-support, read 2026-11-22) and seldom
less than 20 kB."""

MOST_NANOUSD = 10**15
"""A million USD, more than a request can cost: `max_tokens` may be any number where a model's bound isn't known, and
sums of what is written down must fit into 64 bits."""

MARGIN_SCALE = 1_000_000


class Hold:
    """A request's reservation (`domain.ports.Reservation`). Without `verdict` there was nothing to ask: the request is
    charged all the same."""

    __slots__ = ("_margin", "_settled", "_state", "_verdict", "account_id", "charged_nanousd", "claim", "key_id")

    def __init__(
        self,
        state: SharedState,
        key_id: str,
        account_id: str,
        claim: Claim | None,
        verdict: Verdict | None,
        margin: float,
    ) -> None:
        self.key_id = key_id
        self.account_id = account_id
        self.claim = claim
        self.charged_nanousd = 0
        self._state = state
        self._verdict = verdict
        self._margin = margin
        self._settled = False

    @property
    def reserved_nanousd(self) -> int:
        return 0 if self.claim is None else self.claim.amount_nanousd

    def settle(self, request: RequestRecord, attempts: Sequence[AttemptRecord]) -> Sequence[LedgerEntry]:
        """Release what was set aside, and say what is booked. An answer by the caller's own provider key costs it
        nothing here: such attempts have no cost."""
        assert not self._settled, "a reservation is settled once"
        self._settled = True
        cost, tokens = owed_nanousd(attempts, request.code), 0
        for attempt in attempts:
            tokens += (
                attempt.input_tokens + attempt.cache_read_tokens + attempt.cache_write_tokens + attempt.output_tokens
            )
        charged = (
            cost if self._margin == 1.0 else divide_rounded(cost * round(self._margin * MARGIN_SCALE), MARGIN_SCALE)
        )
        self.charged_nanousd = charged
        if self._verdict is not None:
            self._state.settle(self._verdict, charged, tokens)
        reserved = self.reserved_nanousd
        if not reserved:
            return (self._entry(request, "settle", -charged),) if charged else ()
        return (
            self._entry(request, "reserve", -reserved),
            self._entry(request, "settle", -charged),
            self._entry(request, "refund", reserved),
        )

    def remaining_nanousd(self) -> int | None:
        """What this request left in its tightest hard budget; `None`: it is bounded by none."""
        if self._verdict is None:
            return None
        left = [
            one.purse.hard_nanousd - one.spent_nanousd - one.reserved_nanousd - self.charged_nanousd
            for one in self._verdict.standings
            if one.purse.hard_nanousd is not None
        ]
        return max(0, min(left)) if left else None

    def _entry(self, request: RequestRecord, kind: str, amount_nanousd: int) -> LedgerEntry:
        # The time is the request's: what it costs belongs to the period in which it was let in.
        return LedgerEntry(
            f"{request.id}/{kind}",
            self.account_id,
            self.key_id,
            request.id,
            kind,  # type: ignore[arg-type]  # one of three words, above
            amount_nanousd,
            request.created_at_ms,
            None,
        )

    def __del__(self) -> None:
        # A request that ended before its run began, and so was never settled, must not keep what it set aside.
        if not self._settled and self._verdict is not None:
            self._state.settle(self._verdict, 0, 0)


async def reserve(services: Services, caller: Caller, ledger: Ledger, *, likely_nanousd: int | None = None) -> None:
    """Set credit aside for the request of `ledger`, which settles it. `likely_nanousd` is a better estimate of what
    several calls will cost together. Raises `OutOfCredit` and `RateLimited`, and then nothing is set aside."""
    principal = caller.principal
    access, key = principal.access, principal.key
    margin = services.margin
    purses = () if _bills_itself(ledger) else principal.purses
    if not purses and access.tokens_per_minute is None and access.concurrency is None:
        ledger.reservation = Hold(services.state, key.id, key.account_id, None, None, margin)
        return
    tokens = prompt_tokens(ledger.request) if purses or access.tokens_per_minute is not None else 0
    amount = 0
    if purses:
        amount = int(max(most_nanousd(ledger, tokens), likely_nanousd or 0) * margin)
        amount = max(amount, MINIMUM_CREDITS.get(ledger.mode, 1) * NANO_PER_USD // CREDITS_PER_USD)
        amount = min(amount, MOST_NANOUSD)
    claim = Claim(
        ledger.id,
        key.id,
        ledger.created_at_ms,
        purses,
        amount,
        tokens,
        access.tokens_per_minute,
        access.concurrency,
    )
    verdict = await services.state.reserve(claim)
    if verdict.refused == "budget":
        assert verdict.by is not None
        services.metrics.budget_refusals[verdict.by.purse.kind, verdict.by.purse.period] += 1
        raise out_of_credit(verdict.by)
    if verdict.refused is not None:
        raise limited(verdict.refused, verdict.bound, verdict.retry_after_s)
    ledger.reservation = Hold(services.state, key.id, key.account_id, claim, verdict, margin)
    if access.tokens_per_minute is not None:
        left = max(0, access.tokens_per_minute - verdict.tokens_used)
        caller.notes.append((b"x-ratelimit-limit-tokens", b"%d" % access.tokens_per_minute))
        caller.notes.append((b"x-ratelimit-remaining-tokens", b"%d" % left))
    for standing in verdict.standings:
        if standing.warns:
            caller.notes.append((b"x-llmwise-budget-warning", _warning(standing).encode()))
            _warn(services, standing)


def _bills_itself(ledger: Ledger) -> bool:
    """Whether every target is asked by the account's own key, so that no credit is needed. Not a panel's: its plan
    names the sources alone."""
    own_keys = ledger.handling.own_keys
    if not own_keys or ledger.mode in ("blend", "judge"):
        return False
    return all(planned.target.provider in own_keys for planned in ledger.plan.attempts)


def prompt_tokens(request: Request) -> int:
    """About how many tokens there are in what the request sends."""
    if isinstance(request, ChatRequest):
        needs = needs_of(request)
        tokens = needs.prompt_tokens + 4 * len(request.messages)
        if needs.documents:
            tokens += sum(
                DOCUMENT_TOKENS if part.data is None else len(part.data) // 10
                for message in request.messages
                for part in message.parts
                if isinstance(part, Document)
            )
        return tokens + len(encode(request.tools)) // 4 if request.tools else tokens
    return sum(estimate_tokens(text) if isinstance(text, str) else len(text) for text in request.inputs)


def most_nanousd(ledger: Ledger, prompt: int) -> int:
    """What the request costs if everything goes the dearest way, in nano-USD; models without a price count nothing."""
    request = ledger.request
    said = request.sampling.max_tokens if isinstance(request, ChatRequest) else 0
    costs = []
    for planned in ledger.plan.attempts:
        card = planned.target
        bound = card.max_output
        output = bound or MAX_OUTPUT_TOKENS if said is None else said if bound is None else min(said, bound)
        costs.append(estimate(int(prompt * PROMPT_ERROR), output, ledger.rate_of(card, ledger.created_at_ms)) or 0)
    return max(costs, default=0) if ledger.mode not in ("compare", "blend", "judge") else sum(costs)


def out_of_credit(by: Standing) -> OutOfCredit:
    """402, saying which budget it was, what is spent of it, and when it begins anew."""
    purse, limit = by.purse, by.purse.hard_nanousd or 0
    name = f"{purse.kind}'s {'budget in all' if purse.period == 'total' else f'budget of the {purse.period}'}"
    resets_at = None if by.ends_ms is None else datetime.fromtimestamp(by.ends_ms / 1000, UTC).isoformat()
    spent = f"{to_usd(by.spent_nanousd):.6g} USD spent"
    if by.reserved_nanousd:
        spent += f" and {to_usd(by.reserved_nanousd):.6g} set aside for requests under way"
    then = f"it begins anew at {resets_at}" if resets_at else "an administrator can raise it"
    return OutOfCredit(
        f"the {name} of {to_usd(limit):.6g} USD is used up: {spent}; {then}",
        budget=f"{purse.kind}:{purse.period}",
        limit_usd=to_usd(limit),
        spent_usd=to_usd(by.spent_nanousd),
        reserved_usd=to_usd(by.reserved_nanousd),
        resets_at=resets_at,
    )


def credits_charged(ledger: Ledger) -> float | None:
    """What the caller paid for a request that has ended; `None` when a price isn't known."""
    record, hold = ledger.record, ledger.reservation
    if record is None or record.cost_nanousd is None:
        return None
    return to_credits(hold.charged_nanousd if isinstance(hold, Hold) else record.cost_nanousd)


def credits_remaining(ledger: Ledger) -> float | None:
    """What is left of the tightest hard budget after it; `None`: unlimited."""
    left = ledger.reservation.remaining_nanousd() if isinstance(ledger.reservation, Hold) else None
    return None if left is None else to_credits(left)


def _warning(standing: Standing) -> str:
    purse = standing.purse
    used = to_usd(standing.spent_nanousd + standing.reserved_nanousd)
    return f"{purse.kind}:{purse.period}; used_usd={used:.6f}; limit_usd={to_usd(purse.soft_nanousd or 0):.6f}"


def _warn(services: Services, standing: Standing) -> None:
    purse, metrics = standing.purse, services.metrics
    metrics.budget_warnings[purse.kind, purse.period] += 1
    once = f"{purse.id}:{standing.start_ms}"
    if once not in metrics.warned:
        if len(metrics.warned) > 10_000:
            metrics.warned.clear()
        metrics.warned.add(once)
        log.warning("soft budget reached: %s of %s: %s", purse.period, purse.owner, _warning(standing))
