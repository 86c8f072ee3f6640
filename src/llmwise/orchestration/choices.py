"""One question asked several times: the choices of OpenAI's `n`, each a run of the engine, one account of them all.

Decision: the gateway asks n times instead of handing `n` on. So `n` means the same for every family (Anthropic has no
such field), each choice has its own failover, and an attempt keeps to one grammar of events with one answer in it. The
price: the prompt is billed n times, where OpenAI alone would bill it once, less what its prompt cache gives back. What
would change our mind: callers that ask for many choices of long prompts.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec
from msgspec.structs import replace

from llmwise.domain.events import Event
from llmwise.domain.requests import ChatRequest, Passthrough
from llmwise.orchestration.chat import Answer, joined
from llmwise.orchestration.continuity import Engine
from llmwise.orchestration.fanout import Batch, Source, fanout
from llmwise.orchestration.panel import Emit, kept, piped
from llmwise.orchestration.settlement import Ledger

MAX_CHOICES = 8


def branches(account: Ledger, request: ChatRequest, n: int) -> list[Ledger]:
    """A ledger for each choice of `request`, whose account is `account`."""
    return [account.branch(account.plan, _variation(request, index)) for index in range(n)]


def run(engine: Engine, account: Ledger, choices: Sequence[Ledger]) -> AsyncGenerator[Batch, None]:
    """The events of all choices, interleaved; a batch's `source` is the choice's index. The first choice that fails
    ends the others, and its `GatewayError` is raised. The account is closed in every case."""

    async def work(emit: Emit[Batch]) -> None:
        with kept(account):
            async with fanout(engine, [Source(choice) for choice in choices]) as items, aclosing(items):
                async for item in items:
                    if isinstance(item, Batch):
                        await emit(item)
                        continue
                    if account.final is None or item.error is not None:
                        account.final = choices[item.source].final
                    if item.error is not None:
                        raise item.error

    return piped(work)


async def answers(engine: Engine, account: Ledger, choices: Sequence[Ledger]) -> list[Answer]:
    """The choices as whole answers, in order. Raises the `GatewayError` of the first one that failed."""
    heard: list[list[Event]] = [[] for _ in choices]
    async with aclosing(run(engine, account, choices)) as batches:
        async for batch in batches:
            heard[batch.source] += batch.events
    return [joined(events) for events in heard]


def _variation(request: ChatRequest, index: int) -> ChatRequest:
    """The same question; a seed is counted on, or every choice would be the same."""
    seed, own = request.sampling.seed, request.passthrough
    if seed is None or index == 0:
        return request
    seed += index
    if own is not None and "seed" in own.fields:
        own = _with_seed(own, seed)
    return replace(request, sampling=replace(request.sampling, seed=seed), passthrough=own)


def _with_seed(own: Passthrough, seed: int) -> Passthrough:
    return replace(own, fields={**own.fields, "seed": msgspec.json.encode(seed)})
