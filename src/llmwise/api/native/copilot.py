"""The copilot: its settings, and a question to it: /settings/copilot."""

from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from llmwise.api.admission import credits_charged, reserve
from llmwise.api.frame import Call
from llmwise.domain.access import AccountSettings, account_settings_of
from llmwise.domain.errors import NotImplementedHere
from llmwise.orchestration import copilot
from llmwise.orchestration.chat import answer

Word = Annotated[str, Meta(max_length=200)]

NO_MODEL = "this gateway has no copilot: its administrator names a model in [copilot] model; the documentation is open"


class CopilotBody(Struct, forbid_unknown_fields=True):
    """What is absent stays as it is."""

    goal: Word | None = None
    onboarded: bool | None = None
    checklist: Annotated[dict[Word, bool], Meta(max_length=64)] | None = None


class CopilotState(Struct):
    """`available`: whether a question is answered here."""

    goal: str | None
    onboarded: bool
    checklist: dict[str, bool]
    available: bool
    model: str | None


class AskBody(Struct, forbid_unknown_fields=True):
    """`path` is where the user is in the dashboard; `context` is told the model as it is."""

    question: Annotated[str, Meta(min_length=1, max_length=4000)]
    path: Word | None = None
    context: Annotated[dict[Word, Annotated[str, Meta(max_length=1000)]], Meta(max_length=20)] | None = None


class CopilotAnswer(Struct):
    """`sources` are the documentation's pages that the model was shown."""

    id: str
    answer: str
    model: str
    sources: list[str]
    credits_charged: float | None


async def state(call: Call) -> CopilotState:
    """GET /api/v1/settings/copilot."""
    assert call.key is not None
    account = await call.services.store.account(call.key.account_id)
    return _state(call, account_settings_of(account.settings))


async def update(call: Call) -> CopilotState:
    """PUT /api/v1/settings/copilot."""
    assert call.key is not None
    body: CopilotBody = call.body

    def changed(settings: AccountSettings) -> AccountSettings:
        old = settings.copilot
        new = replace(
            old,
            goal=old.goal if body.goal is None else body.goal,
            onboarded=old.onboarded if body.onboarded is None else body.onboarded,
            checklist=old.checklist if body.checklist is None else body.checklist,
        )
        return replace(settings, copilot=new)

    services = call.services
    account = await services.store.change_account(call.key.account_id, services.clock.unix_ms(), changed)
    return _state(call, account_settings_of(account.settings))


async def ask(call: Call) -> CopilotAnswer:
    """POST /api/v1/settings/copilot/ask."""
    services, caller, body = call.services, call.caller, call.body
    assert caller is not None
    if services.copilot.model is None:
        raise NotImplementedHere(NO_MODEL, code="copilot_not_set_up")
    found = copilot.excerpts(body.question, copilot.library())
    told = "".join(f"\n{name}: {text}" for name, text in (body.context or {}).items())
    request = copilot.question(services.copilot.model, body.question + told, body.path, found)
    ledger = services.ledger(
        caller.principal,
        services.new_request_id(),
        request,
        services.planner.plan(request, replace(services.view(caller.key), allowed=None)),
        "native",
    )
    await reserve(services, caller, ledger)
    said = await answer(services.mesh, request, ledger)
    assert ledger.final is not None
    sources = list(dict.fromkeys(one.page for one in found))
    return CopilotAnswer(
        ledger.id, said.text or said.refusal or "", ledger.final.model, sources, credits_charged(ledger)
    )


def _state(call: Call, settings: AccountSettings) -> CopilotState:
    kept, model = settings.copilot, call.services.copilot.model
    return CopilotState(kept.goal, kept.onboarded, kept.checklist, model is not None, model)
