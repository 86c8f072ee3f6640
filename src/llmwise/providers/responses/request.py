"""ChatRequest to the body of POST /responses.

Two ways in, as for Chat Completions. A request that came in this dialect is forwarded: its members as they were, unless
one of its items is of our own making and the provider would refuse it. Any other is written anew; then nothing is
stored at the provider and thinking comes back encrypted, since the conversation's home is elsewhere.
"""

from typing import Final

from msgspec import Raw
from msgspec.json import Decoder

from llmwise.domain.messages import Message, Text
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Outgoing
from llmwise.domain.requests import ChatRequest, ResponseFormat, Sampling, Tool, ToolChoice
from llmwise.providers.losses import Losses, foreign
from llmwise.providers.profiles import Profile, effort_of, nearest_effort, profile_for
from llmwise.providers.responses.items import JSON, is_item, render
from llmwise.wire.proofs import MARK, unwrap
from llmwise.wire.responses import ENCODER, KIND, REASONING

PATH: Final = "/responses"
MIN_OUTPUT_TOKENS: Final = 16
"""Below it `max_output_tokens` is an error 400 ("integer below minimum value", recorded 2025)."""

VENDOR: Final = "openai"
"""Whose profiles say what a model takes: the format's other speakers leave out by themselves what they can't."""


def encode(request: ChatRequest, target: ModelCard) -> Outgoing:
    """The request to `target`. Raises `UnsupportedInput`."""
    profile = profile_for(VENDOR, target.upstream)
    losses = Losses(target.id, request.strict)
    passthrough = request.passthrough
    if passthrough is not None and passthrough.dialect == "responses":
        body = _forwarded(losses, passthrough.fields)
    else:
        body = _written(request, target, profile, losses)
        foreign(request, "responses", losses)
    body["model"] = target.upstream
    if request.stream:
        body["stream"] = True
    _fit(body, request, profile, losses)
    return Outgoing(PATH, ENCODER.encode(body), warnings=losses.warnings)


# --- two ways in ------------------------------------------------------------------------------------------------------


def _forwarded(losses: Losses, fields: dict[str, bytes]) -> JSON:
    body: JSON = {name: Raw(value) for name, value in fields.items() if value != b"null"}
    body.pop("stream", None)
    given = fields.get("input", b"")
    if MARK.encode() in given and not given.lstrip().startswith(b'"'):
        body["input"] = [item for raw in _ITEMS.decode(given) if (item := _own(raw, losses)) is not None]
    return body


def _own(raw: Raw, losses: Losses) -> Raw | None:
    """An item as it came; of one that we rendered the provider's own, and of another model's thinking nothing."""
    if KIND.decode(raw).type != "reasoning":
        return raw
    proof = unwrap(REASONING.decode(raw).encrypted_content)
    if proof is None:
        return raw
    item = proof.signature or proof.redacted
    if item is not None and is_item(item):
        return Raw(item.encode())
    losses.note("messages.reasoning", "thinking of another model is not sent")
    return None


_ITEMS: Final = Decoder(list[Raw])


def _written(request: ChatRequest, target: ModelCard, profile: Profile, losses: Losses) -> JSON:
    instructions, conversation = _instructions(request.messages)
    body: JSON = {"model": target.upstream, "input": render(conversation, target, profile, losses), "store": False}
    if instructions:
        body["instructions"] = instructions
    sampling = request.sampling
    include = []
    if profile.knob != "none":  # others: "Encrypted content is not supported with this model" (recorded 2025-09)
        include.append("reasoning.encrypted_content")
    if sampling.logprobs:
        include.append("message.output_text.logprobs")
        body["top_logprobs"] = sampling.top_logprobs or 0
    if include:
        body["include"] = include
    for name in ("temperature", "top_p"):
        if (value := getattr(sampling, name)) is not None:
            body[name] = value
    if sampling.max_tokens is not None:
        body["max_output_tokens"] = max(sampling.max_tokens, MIN_OUTPUT_TOKENS)
        if sampling.max_tokens < MIN_OUTPUT_TOKENS:
            losses.change("max_tokens", f"the least that the API takes is {MIN_OUTPUT_TOKENS}")
    _unsendable(sampling, losses)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice)
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.response_format is not None:
        body["text"] = {"format": _format(request.response_format)}
    if request.user is not None:
        body["safety_identifier"] = request.user
    if request.metadata:
        body["metadata"] = request.metadata
    if request.thinking is not None:
        _think(body, request, profile, losses)
    return body


def _instructions(messages: tuple[Message, ...]) -> tuple[str, tuple[Message, ...]]:
    """System messages at the start, if they are all text, and what follows them."""
    end = 0
    while end < len(messages) and messages[end].role == "system" and _is_text(messages[end]):
        end += 1
    if end == len(messages):  # an input may not be empty
        end = 0
    return "\n\n".join(message.text for message in messages[:end]), messages[end:]


def _is_text(message: Message) -> bool:
    return all(isinstance(part, Text) for part in message.parts)


def _unsendable(sampling: Sampling, losses: Losses) -> None:
    for name in ("top_k", "seed", "presence_penalty", "frequency_penalty", "stop"):
        if getattr(sampling, name):
            losses.drop(name, "the Responses API has no such parameter")


def _tool(tool: Tool) -> JSON:
    """`strict` is said, because what it is unsaid differs: Chat Completions has it off, this API tries it on."""
    function: JSON = {"type": "function", "name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.parameters if tool.parameters is not None else {"type": "object", "properties": {}}
    function["strict"] = bool(tool.strict)
    return function


def _tool_choice(choice: ToolChoice) -> object:
    return choice.mode if choice.mode != "tool" else {"type": "function", "name": choice.name}


def _format(form: ResponseFormat) -> JSON:
    if form.kind != "json_schema":
        return {"type": form.kind}
    return {
        "type": "json_schema",
        "name": form.name or "answer",
        "schema": form.schema or {},
        "strict": bool(form.strict),
    }


def _think(body: JSON, request: ChatRequest, profile: Profile, losses: Losses) -> None:
    effort = None if request.thinking is None else effort_of(request.thinking)
    if request.thinking is None or effort is None:
        return
    if profile.knob == "none":
        if effort != "none":
            losses.drop("thinking", "the model has no setting for it")
        return
    word = nearest_effort(effort, profile.efforts)
    if word is None:
        losses.note("thinking", "the model thinks as much as it likes")
        return
    body["reasoning"] = {"effort": word}
    if word != effort and request.thinking.effort is not None:
        losses.change("thinking", f"the effort is {word}: {effort} is not to be had")


# --- fitting, for both ------------------------------------------------------------------------------------------------

_DEFAULTS: Final = {"temperature": 1, "top_p": 1}


def _fit(body: JSON, request: ChatRequest, profile: Profile, losses: Losses) -> None:
    """Leave out what the model refuses. Only what both of OpenAI's formats have: `profiles` speaks of the other one."""
    refused = profile.refuses
    if profile.refuses_thinking and _thinks(request, profile):
        refused = refused | profile.refuses_thinking
    for name, default in _DEFAULTS.items():
        if name in body and name in refused:
            del body[name]
            if getattr(request.sampling, name) != default:
                losses.drop(name, "the model refuses it")


def _thinks(request: ChatRequest, profile: Profile) -> bool:
    effort = None if request.thinking is None else effort_of(request.thinking)
    return profile.thinks if effort is None else effort != "none" and profile.knob != "none"
