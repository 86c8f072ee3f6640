"""ChatRequest to the body of POST /chat/completions, for whichever vendor of the format.

Two ways in, one way out. A request that came in this dialect is forwarded: its members as they were, messages and all,
unless the vendor would choke on something in them. Any other is written anew. Both then get the same fitting: the names
and values that the target's profile asks for, what it refuses left out and said so.
"""

from typing import Final

from msgspec import Raw

from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Outgoing
from llmwise.domain.requests import ChatRequest, ResponseFormat, Sampling, Tool, ToolChoice
from llmwise.providers.losses import Losses, foreign
from llmwise.providers.openai.messages import JSON, render
from llmwise.providers.profiles import Profile, budget_of, effort_of, nearest_effort, profile_for
from llmwise.wire.openai import ENCODER

PATH: Final = "/chat/completions"


def encode(request: ChatRequest, target: ModelCard, vendor: str) -> Outgoing:
    """The request to `target`, whose profile is looked up under `vendor`. Raises `UnsupportedInput`."""
    profile = profile_for(vendor, target.upstream)
    losses = Losses(target.id, request.strict)
    passthrough = request.passthrough
    if passthrough is not None and passthrough.dialect == "openai":
        body = _forwarded(request, target, profile, losses, passthrough.fields)
    else:
        body = _written(request, target, profile, losses)
        foreign(request, "openai", losses, ("cache_control",) if profile.cache_control else ())
    body["model"] = target.upstream
    if request.stream:
        body["stream"] = True
        if profile.stream_usage:
            body["stream_options"] = {"include_usage": True}
    _fit(body, request, profile, losses)
    return Outgoing(PATH, ENCODER.encode(body), warnings=losses.warnings)


# --- two ways in ------------------------------------------------------------------------------------------------------


def _forwarded(
    request: ChatRequest, target: ModelCard, profile: Profile, losses: Losses, fields: dict[str, bytes]
) -> JSON:
    body: JSON = {name: Raw(value) for name, value in fields.items() if value != b"null"}
    body.pop("stream", None)
    body.pop("stream_options", None)
    messages = fields.get("messages", b"")
    if (
        not messages
        or any(mark in messages for mark in profile.rewrites)
        or _schema_is_lost(request.response_format, profile)
    ):
        body["messages"] = _conversation(request, target, profile, losses)
    if request.tools and not profile.strict_tools and b'"strict"' in fields.get("tools", b""):
        body["tools"] = [_tool(tool, profile) for tool in request.tools]
    strongest = fields.get("reasoning_effort") == b'"max"' and profile.knob in ("effort", "toggle_effort")
    if request.thinking is not None and not strongest:  # a word that we have no other for goes on as it came
        body.pop("reasoning_effort", None)  # `_fit` says it in the target's own words
    return body


def _written(request: ChatRequest, target: ModelCard, profile: Profile, losses: Losses) -> JSON:
    body: JSON = {"model": target.upstream, "messages": _conversation(request, target, profile, losses)}
    sampling = request.sampling
    for name in _SAMPLING:
        value = getattr(sampling, name)
        if value is not None:
            body[name] = value
    if sampling.stop:
        body["stop"] = sampling.stop
    if request.tools:
        body["tools"] = [_tool(tool, profile) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice)
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.response_format is not None:
        body["response_format"] = _response_format(request.response_format)
    if request.user is not None:
        body["user"] = request.user
    if request.metadata:
        losses.drop("metadata", "the provider keeps none unless answers are stored there")
    return body


_SAMPLING: Final = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
)


def _conversation(request: ChatRequest, target: ModelCard, profile: Profile, losses: Losses) -> list[JSON]:
    messages = render(request.messages, target, profile, losses)
    form = request.response_format
    if form is not None and _schema_is_lost(form, profile):
        text = f"Answer with JSON only, matching this JSON schema: {ENCODER.encode(form.schema).decode()}"
        messages.insert(0, {"role": profile.system_role, "content": text})
    return messages


def _tool(tool: Tool, profile: Profile) -> JSON:
    function: JSON = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    if tool.strict is not None and profile.strict_tools:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> object:
    return choice.mode if choice.mode != "tool" else {"type": "function", "function": {"name": choice.name}}


def _response_format(form: ResponseFormat) -> JSON:
    if form.kind != "json_schema":
        return {"type": form.kind}
    schema: JSON = {"name": form.name or "answer", "schema": form.schema or {}}
    if form.strict is not None:
        schema["strict"] = form.strict
    return {"type": "json_schema", "json_schema": schema}


# --- fitting, for both ------------------------------------------------------------------------------------------------


def _fit(body: JSON, request: ChatRequest, profile: Profile, losses: Losses) -> None:
    if "max_tokens" in body or "max_completion_tokens" in body:
        older = body.pop("max_tokens", None)
        body[profile.max_tokens] = body.pop("max_completion_tokens", older)
    if request.thinking is not None and "reasoning_effort" not in body:
        _fit_thinking(body, request, profile, losses)
    refused = profile.refuses
    if profile.refuses_thinking and _thinks(request, profile):
        refused = refused | profile.refuses_thinking
    for name in [name for name in body if name in refused]:
        del body[name]
        if not _is_default(name, request.sampling):
            losses.drop(name, "the model refuses or ignores it")
    for name, there in profile.renames:
        if name in body:
            body[there] = body.pop(name)
    if request.tool_choice is not None and request.tool_choice.mode not in profile.tool_choices:
        body.pop("tool_choice", None)
        if request.tool_choice.mode == "none":
            body.pop("tools", None)  # what can't be forbidden is not offered
            body.pop("parallel_tool_calls", None)
        else:
            losses.change("tool_choice", "no tool can be forced here; the model chooses")
    if _schema_is_lost(request.response_format, profile):
        body["response_format"] = {"type": "json_object"}
        losses.change("response_format", "JSON without a schema here; the schema is in the prompt, and not enforced")


_DEFAULTS: Final = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0, "logprobs": False}


def _is_default(name: str, sampling: Sampling) -> bool:
    """The parameter says what happens without it: nothing is lost."""
    return name in _DEFAULTS and getattr(sampling, name) == _DEFAULTS[name]


def _thinks(request: ChatRequest, profile: Profile) -> bool:
    effort = None if request.thinking is None else effort_of(request.thinking)
    return profile.thinks if effort is None else effort != "none" and profile.knob != "none"


def _fit_thinking(body: JSON, request: ChatRequest, profile: Profile, losses: Losses) -> None:
    thinking = request.thinking
    effort = None if thinking is None else effort_of(thinking)
    if thinking is None or effort is None:
        return
    if profile.knob == "none":
        if effort != "none" and not profile.thinks:
            losses.drop("thinking", "the model has no setting for it")
        elif effort == "none" and profile.thinks:
            losses.drop("thinking", "the model can't be told not to think")
        return
    if profile.knob == "openrouter":
        if thinking.budget_tokens is not None and effort != "none":
            body["reasoning"] = {"max_tokens": budget_of(thinking)}
        else:
            body["reasoning"] = {"effort": effort}
        return
    if profile.knob != "effort":
        if "thinking" not in body:  # the caller's own, in the vendor's words, says more
            body["thinking"] = {"type": "disabled" if effort == "none" else "enabled"}
        if effort == "none" or profile.knob == "toggle":
            return
    word = nearest_effort(effort, profile.efforts)
    if word is None:
        losses.note("thinking", "the model thinks as much as it likes")
        return
    body["reasoning_effort"] = word
    if word != effort and thinking.effort is not None:
        losses.change("thinking", f"the effort is {word}: {effort} is not to be had")


def _schema_is_lost(form: ResponseFormat | None, profile: Profile) -> bool:
    return form is not None and form.kind == "json_schema" and not profile.json_schema
