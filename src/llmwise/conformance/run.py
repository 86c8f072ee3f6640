"""One cell after the other: set the provider, ask the gateway, look at both ends."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

import httpx
from msgspec import Struct
from msgspec.json import decode

from llmwise.conformance.cases import Asked, Case, Outcome, cases
from llmwise.conformance.golden import Golden, golden_cases
from llmwise.conformance.questions import PATHS, Dialect, encoded, headers
from llmwise.providers.scripted import parse_script
from llmwise.providers.scripted.server import ScriptedServer

LEAVES_AFTER_S = 0.5
LETS_GO_WITHIN_S = 2.0
"""How long a caller listens that leaves, and how soon after it the provider's call has to end."""

ANSWERS_WITHIN_S = 30.0


class Tested(Struct, frozen=True):
    """The gateway under test. `models` are its names for a model of each family (`any`: of whatever is behind it)."""

    base_url: str
    models: Mapping[str, str]
    dialects: Sequence[Dialect]
    key: str | None = None


class Cell(Struct, frozen=True):
    """One case, from one dialect to one family. `wrong` is empty for one that passes; `None`: not asked."""

    case: str
    dialect: Dialect
    family: str
    wrong: tuple[str, ...] | None


def asked_of(tested: Tested, upstream: ScriptedServer | None) -> list[tuple[Case, Dialect, str]]:
    """Every cell, in the order of the cases."""
    every: Iterable[Case] = [*cases(), *golden_cases()]
    return [
        (case, dialect, family)
        for case in every
        if upstream is not None or not case.scripted
        for dialect in tested.dialects
        for family in tested.models
    ]


async def run(tested: Tested, upstream: ScriptedServer | None) -> AsyncIterator[Cell]:
    """The cells as they are done. `upstream` is what the gateway has behind it, in this process."""
    base_url = tested.base_url.rstrip("/").removesuffix("/v1")
    async with httpx.AsyncClient(base_url=base_url, timeout=ANSWERS_WITHIN_S) as client:
        for case, dialect, family in asked_of(tested, upstream):
            if not case.unless.isdisjoint({dialect, f"> {family}"}) or not _fits(case, family):
                yield Cell(case.name, dialect, family, None)
                continue
            wrong: list[str] = []
            judged = False
            for stream in case.modes:
                outcome = await _ask(client, tested, upstream, case, dialect, family, stream)
                if isinstance(case, Golden) and any(asked.family != case.family for asked in outcome.asked):
                    continue  # it asked in another of the provider's formats than the one that was recorded
                judged = True
                try:
                    found = list(case.check(outcome))
                except (KeyError, TypeError, IndexError, ValueError) as error:
                    found = [f"what reached the provider is not its format: {type(error).__name__}: {error}"]
                wrong += [f"{'streamed' if stream else 'whole'}: {each}" for each in found]
            yield Cell(case.name, dialect, family, tuple(wrong) if judged else None)


def _fits(case: Case, family: str) -> bool:
    """A recorded answer is asked of its own family only."""
    return not isinstance(case, Golden) or case.family == family


async def _ask(
    client: httpx.AsyncClient,
    tested: Tested,
    upstream: ScriptedServer | None,
    case: Case,
    dialect: Dialect,
    family: str,
    stream: bool,
) -> Outcome:
    if upstream is not None:
        upstream.set_script(parse_script(case.script))
        upstream.recording = case.recording(stream) if isinstance(case, Golden) else None
        upstream.journal.clear()
    model = "no-such-model-anywhere" if case.way == "no model" else tested.models[family]
    key = {"no key": None, "bad key": "sk-not-a-key"}.get(case.way, tested.key)
    body = encoded(case.question, dialect, model, stream=stream)
    request = client.build_request(
        "POST",
        PATHS[dialect],
        content=body[: len(body) // 2] if case.way == "no JSON" else body,
        headers=headers(dialect, key),
    )
    status, answered, text = 0, httpx.Headers(), ""
    try:
        async with asyncio.timeout(LEAVES_AFTER_S if case.way == "leave" else ANSWERS_WITHIN_S):
            response = await client.send(request, stream=True)
            try:
                status, answered = response.status_code, response.headers
                async for piece in response.aiter_text():
                    text += piece
            finally:
                await response.aclose()
    except (TimeoutError, httpx.HTTPError) as error:
        text += "" if case.way == "leave" else f"\n{type(error).__name__}: {error}"
    left = await _left_after_ms(upstream) if case.way == "leave" and upstream is not None else None
    requests = () if upstream is None else upstream.requests
    received = tuple(Asked(entry.dialect, entry.json) for entry in requests if isinstance(entry.json, dict))
    return Outcome(dialect, family, stream, status, answered, text, received, left)


async def _left_after_ms(upstream: ScriptedServer) -> float | None:
    """How long the provider's call goes on; `None` when it does not end in time."""
    waited = 0.0
    while waited < LETS_GO_WITHIN_S:
        if upstream.requests and not upstream.in_flight:
            return waited * 1000
        await asyncio.sleep(0.02)
        waited += 0.02
    return None


def models_of(listing: bytes) -> list[str]:
    """The names in an answer to GET /v1/models."""
    return [str(row["id"]) for row in decode(listing)["data"]]
