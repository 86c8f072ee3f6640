"""What every endpoint does with a chat request between reading it and running it: how strict it is, what went before,
and which models it goes to."""

from collections.abc import Sequence

import msgspec

from llmwise.api.services import Services
from llmwise.domain.access import access_of
from llmwise.domain.errors import InvalidRequest
from llmwise.domain.plan import Plan
from llmwise.domain.requests import AUTO, ChatRequest
from llmwise.orchestration.continuity import origin, restored
from llmwise.routing.rollout import plan as rolled_out
from llmwise.storage.rows import KeyRow

STRICT = b"x-llmwise-strict"
"""`true`: refuse what a target can't take, instead of leaving it out with a warning. `false` takes back a key's."""


async def planned(
    services: Services, key: KeyRow, headers: Sequence[tuple[bytes, bytes]], request: ChatRequest
) -> tuple[ChatRequest, Plan]:
    """The request as it is to be run, and its plan. Raises what `Planner.plan` does, and `InvalidRequest`."""
    _choosable(request)
    strict = strictness(headers, key)
    if strict != request.strict:
        request = msgspec.structs.replace(request, strict=strict)
    view, token = services.view(key), ""
    if request.model == AUTO:
        token = request.conversation_id or services.new_request_id()
        view = services.steered(view, token)
    if not any(message.role == "tool" for message in request.messages):
        return request, rolled_out(services.planner, request, view, services.steering.rollout, token)
    recalled = await services.continuity.recall(key.id, request)
    families = {name: provider.family for name, provider in services.providers.items()}
    view = msgspec.structs.replace(view, origin=origin(request, recalled), families=families)
    plan = rolled_out(services.planner, request, view, services.steering.rollout, token)
    names = {attempt.target.provider for attempt in plan.attempts}
    targets = {name: family for name, family in families.items() if name in names}
    return restored(request, recalled, targets), plan


def strictness(headers: Sequence[tuple[bytes, bytes]], key: KeyRow) -> bool:
    """Whether losses are refused: as the header says, or the key. Raises `InvalidRequest`."""
    for name, value in headers:
        if name == STRICT:
            said = value.strip().lower()
            if said not in (b"true", b"false"):
                shown = value.decode("latin-1")
                raise InvalidRequest(f"x-llmwise-strict: {shown!r} is neither true nor false", param="x-llmwise-strict")
            return said == b"true"
    return access_of(key.settings).strict


def _choosable(request: ChatRequest) -> None:
    """A choice that forces a tool needs one. `auto` and `none` without tools ask for what happens anyway."""
    choice, own = request.tool_choice, request.passthrough
    if choice is None or choice.mode not in ("required", "tool"):
        return
    if (
        own is not None
        and own.dialect == "anthropic"
        and ("thread" in own.fields or own.fields.get("tools", b"[]") != b"[]")
    ):
        return  # the tool may be one of the provider's own, or of the thread
    if own is not None and any(field.startswith("tools[") for field, _ in own.details):
        return  # or of a type that only OpenAI has
    if not request.tools:
        raise InvalidRequest("tool_choice: forces a tool, and there are no tools", param="tool_choice")
    names = [tool.name for tool in request.tools]
    if choice.mode == "tool" and choice.name not in names:
        text = f"tool_choice: there is no tool {choice.name!r}; the tools are {', '.join(names)}"
        raise InvalidRequest(text, param="tool_choice")
