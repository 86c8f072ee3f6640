"""The attempt engine: walks a plan until one attempt answers. Nothing else talks to a provider.

An attempt is committed at its first content. Before that, a retryable failure, or no content in time, moves on to the
next target; after it a failure is raised as it is, because the caller already holds half an answer and another model's
half would not continue it. A target whose circuit is open is skipped without a request. One deadline bounds it all, and
every attempt is settled exactly once, also when the caller leaves.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from llmwise.domain.access import ProviderKey
from llmwise.domain.errors import (
    BreakerEffect,
    CircuitOpen,
    DeadlineExceeded,
    GatewayError,
    InternalError,
    ShuttingDown,
    Unavailable,
    UnsupportedInput,
    UpstreamRateLimited,
    UpstreamTimeout,
)
from llmwise.domain.events import CONTENT, Event, OpaquePart, Routed, TextDelta, Traced, Verbatim, Warned, spelled_out
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Embedder, Exchange, Provider
from llmwise.domain.requests import EmbeddingRequest, Request
from llmwise.orchestration.deadlines import NEVER, Deadline, TimeoutSettings, Watchdog
from llmwise.orchestration.handling import with_own_key
from llmwise.orchestration.places import left_out
from llmwise.orchestration.settlement import CLIENT_GONE_STATUS, Attempt, Ledger, outcome_of
from llmwise.routing.breaker import Admission
from llmwise.routing.health import UNSEEN, Health

AFTER_END_S = 0.25
"""How long the end of the body may follow the answer's end: reading it keeps the connection for the next request."""


class TargetState(Protocol):
    """Circuits and health, shared by all requests (see `state`)."""

    def admit(self, target: str) -> Admission: ...

    def report(
        self,
        target: str,
        effect: BreakerEffect | None,
        *,
        probe: int = 0,
        ttft_ms: float | None = None,
        latency_ms: float | None = None,
        retry_after_s: float | None = None,
        limited: bool = False,
        reason: str | None = None,
    ) -> None: ...

    def health(self) -> Mapping[str, Health]: ...


class Mesh:
    """The engine. `providers` are the configured connections by name."""

    def __init__(self, providers: Mapping[str, Provider], state: TargetState, timeouts: TimeoutSettings) -> None:
        self._providers = providers
        self._state = state
        self._timeouts = timeouts
        self._watchdog = Watchdog()

    def end(self) -> None:
        """The gateway is ending: every request under way ends now, with the code `shutting_down`."""
        self._watchdog.ending = True

    async def run(self, request: Request, ledger: Ledger) -> AsyncGenerator[Sequence[Event], None]:
        """Yield the events of the first attempt that commits, in batches, one a network read.

        Until then its events are held, unless there is no other target: then they come at once, so that a caller sees
        the provider's stream begin. For a chain, `Routed` events come as the steps happen and one `Traced` comes last,
        also before a failure is raised. Raises the `GatewayError` that ended the request. Closing the generator, or
        cancelling the task that waits on it, ends the upstream call at once; the ledger is closed in every case.
        """
        plan = ledger.plan
        chain = plan.chain
        alone = len(plan.attempts) == 1 and not chain
        own_keys = ledger.handling.own_keys
        loop = asyncio.get_running_loop()
        deadline = Deadline(self._timeouts, loop.time(), stream=request.stream)
        if ledger.until is not None:  # one of several runs of a request, which have less time than it has
            deadline.expires = min(deadline.expires, ledger.until)
        watch = self._watchdog.watch()
        attempt: Attempt | None = None
        exchange: Exchange | None = None
        skipped_for: list[float] = []
        saved_ms = 0.0
        error: GatewayError | None = None
        try:
            ledger.admit()
            for index, planned in enumerate(plan.attempts):
                card = planned.target
                admission = self._state.admit(circuit_of(card, own_keys.get(card.provider)))
                if not admission.allowed:
                    skipped_for.append(admission.retry_in_s)
                    saved_ms += self._state.health().get(card.id, UNSEEN).failure_ms or 0.0
                    step = Routed(card.id, "skipped", reason="circuit_open")
                    ledger.steps.append(step)
                    if chain:
                        yield (step,)
                    continue
                attempt = ledger.open(card, admission.probe)
                if chain:
                    yield (Routed(card.id, "trying"),)
                committed = False
                held: list[Event] = []
                now = loop.time()
                expires = deadline.first_content(now, len(plan.attempts) - index)
                allowed_s = expires - now
                try:
                    attempt.sent = True
                    watch.until = expires
                    exchange = await _ask(with_own_key(self._provider(card), attempt.own_key), request, card)
                    while True:
                        if attempt.finish is not None:
                            expires = loop.time() + AFTER_END_S
                        elif committed or not request.stream:  # the headers are here: a whole body must follow too
                            expires = deadline.next_read(loop.time())
                        watch.until = expires
                        batch = await exchange.receive()
                        watch.until = NEVER
                        if watch.fired:  # the time was up just as the answer came: the cancellation is on its way
                            await asyncio.sleep(0)
                        if not batch:
                            break
                        if committed and len(batch) == 1:  # most of a stream: one piece of text
                            only = batch[0].said if type(batch[0]) is Verbatim else batch
                            if len(only) == 1 and type(only[0]) is TextDelta:
                                attempt.pieces.append(only[0].text)
                                yield batch
                                continue
                        said = [*spelled_out(batch)]
                        for event in said:
                            attempt.observe(event)
                            if type(event) is Warned:
                                ledger.warnings.append(event)
                            elif type(event) is OpaquePart and not any(type(held) is Verbatim for held in batch):
                                lost = left_out(ledger.dialect, event)
                                if lost is not None and lost not in ledger.warnings:
                                    ledger.warnings.append(lost)
                        if committed:
                            yield batch
                        elif any(type(event) in CONTENT for event in said):
                            committed = True
                            attempt.ttft_ms = int((ledger.clock.monotonic() - attempt.started) * 1000)
                            step = Routed(card.id, "success", latency_ms=attempt.ttft_ms)
                            ledger.steps.append(step)
                            yield [step, *held, *batch] if chain else [*held, *batch] if held else batch
                        elif alone:
                            yield batch
                        else:
                            held += batch
                except GatewayError as failure:
                    error = failure
                except asyncio.CancelledError:
                    if not watch.expired():
                        raise
                    idle = committed or (exchange is not None and not request.stream)
                    if self._watchdog.ending:
                        error = ShuttingDown("the gateway is ending, and the answer took longer than it could wait")
                    else:
                        error = self._timed_out(card, deadline, loop.time(), None if idle else allowed_s)
                else:
                    error = None
                finally:
                    watch.until = NEVER
                if error is not None and attempt.finish is not None:
                    error = None  # what went wrong after the provider's own end takes nothing from the answer
                self._settle(ledger, attempt, error)
                attempt = None
                if exchange is not None:
                    await exchange.aclose()
                    exchange = None
                if error is None:
                    break
                step = self._failed(card, error, ledger)
                if chain:
                    yield (step,)
                if committed or not error.retryable:
                    break
            else:
                error = error or self._nothing_left(plan.attempts[0].target, skipped_for)
            if chain:
                yield (self._trace(ledger, int(saved_ms), error),)
            if error is not None:
                raise error
            ledger.close(200)
        except GatewayError as failure:
            ledger.close(failure.status, failure.code)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            if attempt is not None:
                self._abandon(ledger, attempt)
            if ledger.record is None:
                ledger.close(CLIENT_GONE_STATUS, "client_gone")
            raise
        except BaseException as defect:
            if attempt is not None:
                self._settle(ledger, attempt, InternalError(f"a defect in the gateway: {type(defect).__name__}"))
            if ledger.record is None:
                ledger.close(InternalError.status, InternalError.code)
            raise
        finally:
            watch.stop()
            if exchange is not None:
                await exchange.aclose()

    @property
    def total_s(self) -> float:
        """What a request may take, all its attempts together, in seconds."""
        return self._timeouts.total_s

    def _provider(self, card: ModelCard) -> Provider:
        provider = self._providers.get(card.provider)
        if provider is None:
            raise Unavailable(f"the provider {card.provider!r} of {card.id} is not configured")
        return provider

    def _settle(self, ledger: Ledger, attempt: Attempt, error: GatewayError | None) -> None:
        impatient = ledger.impatient and bool(attempt.pieces)
        outcome = "complete" if error is None else outcome_of(error, impatient=impatient)
        record = ledger.settle(attempt, outcome, error)
        self._state.report(
            circuit_of(attempt.card, attempt.own_key),
            None if error is None else error.breaker,
            probe=attempt.probe,
            ttft_ms=attempt.ttft_ms,
            latency_ms=record.latency_ms,
            retry_after_s=error.retry_after_s if error is not None else None,
            limited=isinstance(error, UpstreamRateLimited),
            reason=error.code if error is not None else None,
        )

    def _abandon(self, ledger: Ledger, attempt: Attempt) -> None:
        """The caller has left; that says nothing about the provider."""
        ledger.settle(attempt, "client_gone" if attempt.sent else "skipped")
        self._state.report(circuit_of(attempt.card, attempt.own_key), "none", probe=attempt.probe)

    def _failed(self, card: ModelCard, error: GatewayError, ledger: Ledger) -> Routed:
        assert ledger.final is not None
        step = Routed(
            card.id,
            "failed",
            reason=error.reason or error.code,
            error=error.message,
            status_code=error.upstream_status or error.status,
            latency_ms=ledger.final.latency_ms,
        )
        ledger.steps.append(step)
        return step

    def _timed_out(self, card: ModelCard, deadline: Deadline, now: float, allowed_s: float | None) -> GatewayError:
        """`allowed_s` is what the attempt had for its first content; `None` when it had begun to answer."""
        if deadline.over(now):
            return DeadlineExceeded(
                f"the request took longer than its total of {self._timeouts.total_s:g} s ([timeouts] total_s)",
                provider=card.provider,
            )
        if allowed_s is None:
            message = f"{card.id} sent nothing more for {self._timeouts.idle_s:g} s ([timeouts] idle_s)"
            return UpstreamTimeout(message, provider=card.provider, reason="idle")
        message = f"{card.id} sent no content within {allowed_s:.3g} s ([timeouts] {deadline.first_setting})"
        return UpstreamTimeout(message, provider=card.provider, reason="first_event")

    def _nothing_left(self, first: ModelCard, skipped_for: list[float]) -> GatewayError:
        retry_after_s = min(skipped_for, default=0.0)
        which = f"{first.id} failed lately and is" if len(skipped_for) == 1 else "all targets failed lately and are"
        message = f"{which} left alone; try again in {retry_after_s:.0f} s (/api/v1/health/targets tells why)"
        return CircuitOpen(message, retry_after_s=retry_after_s)

    def _trace(self, ledger: Ledger, saved_ms: int, error: GatewayError | None) -> Traced:
        return Traced(
            final_model=ledger.final.model if ledger.final is not None and error is None else None,
            attempts=sum(step.status != "skipped" for step in ledger.steps) - _committed_failure(ledger.steps),
            steps=tuple(ledger.steps),
            saved_ms=saved_ms,
            terminal_error=error.message if error is not None else None,
        )


def circuit_of(card: ModelCard, own_key: ProviderKey | None) -> str:
    """Whose circuit an attempt moves: the target's, or, asked by an account's own key, one of that key's at it. A key
    that is refused or limited says nothing about the target to those who have another."""
    return card.id if own_key is None else f"{card.id}#{own_key.id}"


async def _ask(provider: Provider, request: Request, card: ModelCard) -> Exchange:
    if not isinstance(request, EmbeddingRequest):
        return await provider.send(request, card)
    if not isinstance(provider, Embedder):
        raise UnsupportedInput(f"the provider {provider.name!r} of {card.id} makes no embeddings", param="model")
    return await provider.embed(request, card)


def _committed_failure(steps: list[Routed]) -> int:
    """An attempt that committed and then broke has two steps, `success` and `failed`; it is one attempt."""
    return sum(
        earlier.model == later.model and earlier.status == "success" and later.status == "failed"
        for earlier, later in pairwise(steps)
    )
