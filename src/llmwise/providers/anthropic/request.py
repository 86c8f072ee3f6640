"""A chat request as Anthropic's Messages API takes it. Pure: a request and a model in, bytes and warnings out.

Where generations of models differ, `generations` says how; what a generation can't take is dropped or changed visibly
(`providers.losses`). What a client of this dialect said besides goes along (`forwarding`).
"""

from typing import assert_never

from msgspec import UNSET, DecodeError, Raw, UnsetType
from msgspec.json import Decoder, Encoder
from msgspec.structs import replace

from llmwise.domain.errors import UpstreamInvalid
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Outgoing
from llmwise.domain.requests import ChatRequest, Effort
from llmwise.domain.requests import Tool as DomainTool
from llmwise.providers.anthropic.forwarding import has_own_messages, own_headers, with_own
from llmwise.providers.anthropic.generations import EffortWord, Generation, generation
from llmwise.providers.anthropic.turns import calls_tools, conversation, faithful, thinks_first
from llmwise.providers.json_schema import ANTHROPIC, fit
from llmwise.providers.losses import Losses, foreign
from llmwise.wire.anthropic import (
    MessagesRequest,
    Metadata,
    OutputConfig,
    OutputFormat,
    TextBlock,
    Thinking,
    TokenCount,
    Tool,
    ToolChoice,
    Turn,
)

BUDGETS: dict[Effort, int] = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768}
"""Effort words in tokens of thinking, for the models that want a budget; read backwards for those that want a word.
1024 is the API's own minimum."""

COUNTED = frozenset(
    (
        "cache_control",
        "context_management",
        "mcp_servers",
        "messages",
        "model",
        "output_config",
        "speed",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    )
)
"""What `count_tokens` takes, by the official SDK's parameters (anthropic 2.12.0, 2026-11-22)."""

_MIN_BUDGET = 1024
_EFFORTS: dict[Effort, EffortWord] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
}
_ENCODER = Encoder()
_FIELDS = Decoder(dict[str, Raw])
_COUNT = Decoder(TokenCount)


def encode(request: ChatRequest, target: ModelCard) -> Outgoing:
    """Raises `UnsupportedInput` for a part of the conversation that the model can't take, and, if the request is
    strict, for anything that would be dropped or changed."""
    rules = generation(target.upstream)
    losses = Losses(target.id, request.strict)
    system, turns = conversation(request.messages, rules, losses)
    as_it_came = not losses.warnings and has_own_messages(request) and faithful(request.messages)
    tool_choice = _tool_choice(request, rules, losses)
    max_tokens = _max_tokens(request, target, rules, losses)
    thinking, effort = _thinking(request, rules, max_tokens, turns, tool_choice, losses)
    if isinstance(thinking, Thinking) and not isinstance(budget := thinking.budget_tokens, UnsetType):
        max_tokens = _room(request, target, max_tokens, budget)
    thinks = isinstance(thinking, Thinking) and thinking.type in ("enabled", "adaptive")
    temperature, top_p, top_k = _sampling(request, rules, thinks, losses)
    output_format = _output_format(request, target, rules, system, losses)
    output = OutputConfig(effort, output_format)
    _unsendable(request, losses)
    foreign(request, "anthropic", losses)
    body = MessagesRequest(
        model=target.upstream,
        max_tokens=max_tokens,
        messages=turns,
        system=system or UNSET,
        tools=[_tool(tool, rules, losses) for tool in request.tools] or UNSET,
        tool_choice=tool_choice,
        thinking=thinking,
        output_config=UNSET if output == OutputConfig() else output,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        stop_sequences=_stops(request, losses) or UNSET,
        metadata=_metadata(request, losses),
        stream=True if request.stream else UNSET,
    )
    encoded = with_own(body, request, rules, losses, as_it_came=as_it_came)
    return Outgoing("/messages", encoded, own_headers(request, losses), losses.warnings)


def encode_count(request: ChatRequest, target: ModelCard) -> Outgoing:
    """The same request as `count_tokens` takes it: without a limit, a way of sampling or a stream.
    https://platform.claude.com/docs/en/api/messages-count-tokens (2026-11-22)."""
    outgoing = encode(replace(request, strict=False), target)
    fields = _FIELDS.decode(outgoing.body)
    counted = {name: value for name, value in fields.items() if name in COUNTED}
    return Outgoing("/messages/count_tokens", _ENCODER.encode(counted), outgoing.headers, outgoing.warnings)


def decode_count(body: bytes) -> int:
    """Raises `UpstreamInvalid`."""
    try:
        return _COUNT.decode(body).input_tokens
    except DecodeError as error:
        raise UpstreamInvalid(f"the provider's token count is none: {error}") from error


def _max_tokens(request: ChatRequest, target: ModelCard, rules: Generation, losses: Losses) -> int:
    """The API requires a limit. Unless the caller sets one it stays below the model's own: older models refuse a prompt
    whose length and limit together are over the context window."""
    asked, most = request.sampling.max_tokens, target.max_output
    if asked is None:
        return min(most, rules.max_tokens) if most is not None else rules.max_tokens
    if most is not None and asked > most:
        losses.change("max_tokens", f"{asked} is over the model's {most}")
        return most
    return asked


def _room(request: ChatRequest, target: ModelCard, max_tokens: int, budget: int) -> int:
    """A limit that nobody asked for grows with the thinking that somebody did."""
    if request.sampling.max_tokens is not None:
        return max_tokens
    grown = max(max_tokens, budget + 4096)
    return grown if target.max_output is None else max(min(grown, target.max_output), budget + 1)


def _thinking(
    request: ChatRequest,
    rules: Generation,
    max_tokens: int,
    turns: list[Turn],
    tool_choice: ToolChoice | UnsetType,
    losses: Losses,
) -> tuple[Thinking | UnsetType, EffortWord | UnsetType]:
    asked = request.thinking
    if asked is None:
        return UNSET, UNSET
    own = request.passthrough
    if own is not None and own.dialect == "anthropic" and "thinking" not in own.fields:
        # An effort of the API's own dialect steers the whole answer and turns no thinking on.
        return UNSET, _effort(asked.effort, rules)
    if asked.effort == "none" or asked.budget_tokens == 0:
        return _no_thinking(rules, losses)
    if not (rules.budget or rules.adaptive):
        losses.drop("thinking", "the model has none")
        return UNSET, UNSET
    if rules.adaptive and (asked.budget_tokens is None or not rules.budget):
        if asked.budget_tokens is not None:
            losses.change("thinking.budget_tokens", "the model doses its thinking by an effort")
        effort = _effort(asked.effort or (_word(asked.budget_tokens) if asked.budget_tokens else None), rules)
        return Thinking("adaptive", display="summarized" if rules.summarize else UNSET), effort
    why = _no_budget(turns, tool_choice)
    budget = max(_MIN_BUDGET, asked.budget_tokens or BUDGETS[asked.effort or "medium"])
    if request.sampling.max_tokens is not None and budget >= max_tokens:
        # The limit counts thinking too: leave a quarter of it for the answer.
        budget = max(_MIN_BUDGET, max_tokens * 3 // 4)
        if budget >= max_tokens:
            why = f"max_tokens leaves no room for the least budget, {_MIN_BUDGET}"
    if why is not None:
        losses.drop("thinking", why)
        return UNSET, UNSET
    return Thinking("enabled", budget_tokens=budget), UNSET


def _no_budget(turns: list[Turn], tool_choice: ToolChoice | UnsetType) -> str | None:
    """Why thinking with a budget is illegal here, if it is. Adaptive thinking has neither restriction (forced choice
    recorded 2026-08, claude-opus-4-6, status 200)."""
    if isinstance(tool_choice, ToolChoice) and tool_choice.type in ("any", "tool"):
        return "the model can't think and be forced to call a tool"
    last = next((turn for turn in reversed(turns) if turn.role == "assistant"), None)
    if last is not None and calls_tools(last) and not thinks_first(last):
        return "the open tool call was made without this model's thinking"
    return None


def _no_thinking(rules: Generation, losses: Losses) -> tuple[Thinking | UnsetType, EffortWord | UnsetType]:
    match rules.off:
        case "omit":
            return UNSET, UNSET
        case "disabled" | "between_tools" as how:
            return Thinking(how), UNSET
        case None:
            losses.change("thinking", "the model always thinks: the least effort is asked for")
            return UNSET, rules.efforts[0]
        case _:
            assert_never(rules.off)


def _word(budget: int) -> Effort:
    return next((effort for effort, tokens in BUDGETS.items() if budget <= tokens), "xhigh")


def _effort(effort: Effort | None, rules: Generation) -> EffortWord | UnsetType:
    if effort is None or not rules.efforts:
        return UNSET
    word = _EFFORTS[effort]
    return word if word in rules.efforts else rules.efforts[-1]


def _sampling(
    request: ChatRequest, rules: Generation, thinks: bool, losses: Losses
) -> tuple[float | UnsetType, float | UnsetType, int | UnsetType]:
    """Temperature, top_p and top_k, as far as the model takes them: newer ones refuse any, some refuse two together,
    and thinking allows only a top_p of 0.95 and more."""
    asked = request.sampling
    temperature, top_p, top_k = asked.temperature, asked.top_p, asked.top_k
    if temperature is not None and temperature > 1:
        losses.change("temperature", f"{temperature} is over the API's 1")
        temperature = 1.0
    if rules.sampling == "none" or thinks:
        why = "the model can't be given one" if rules.sampling == "none" else "the model can't think and be given one"
        if temperature is not None and temperature != 1:
            losses.drop("temperature", why)
        if top_p is not None and top_p != 1 and (rules.sampling == "none" or top_p < 0.95):
            losses.drop("top_p", why)
            top_p = None
        if top_k is not None:
            losses.drop("top_k", why)
        temperature = top_k = None
        if rules.sampling == "none":
            top_p = None
    if rules.sampling == "one" and temperature is not None and top_p is not None:
        if top_p != 1:
            losses.drop("top_p", "the model takes a temperature or a top_p, not both")
        top_p = None
    return (
        UNSET if temperature is None else temperature,
        UNSET if top_p is None else top_p,
        UNSET if top_k is None else top_k,
    )


def _output_format(
    request: ChatRequest, target: ModelCard, rules: Generation, system: list[TextBlock], losses: Losses
) -> OutputFormat | UnsetType:
    """The native schema, or else an instruction added to `system`. The API has no mode for any JSON object."""
    wanted = request.response_format
    if wanted is None or wanted.kind == "text":
        return UNSET
    if wanted.kind == "json_object" or wanted.schema is None:
        losses.change("response_format", "the API has no JSON mode: the model is told to answer with JSON")
        system.append(TextBlock("Answer with one JSON object and nothing else: no prose, no code fence."))
        return UNSET
    if rules.schema and target.capabilities.json_schema:
        fitted = fit(wanted.schema, ANTHROPIC)
        if fitted.lost:
            losses.change("response_format.schema", f"not enforced, only described: {', '.join(fitted.lost)}")
        return OutputFormat(fitted.schema)
    losses.change("response_format", "the model has no JSON schema mode: it is told the schema")
    schema = _ENCODER.encode(wanted.schema).decode()
    system.append(
        TextBlock(f"Answer with one JSON value and nothing else: no prose, no code fence. It must match:\n{schema}")
    )
    return UNSET


def _tool(tool: DomainTool, rules: Generation, losses: Losses) -> Tool:
    schema = tool.parameters or {"type": "object", "properties": {}}
    if "type" not in schema:
        schema = {"type": "object", **schema}
    strict = False
    if tool.strict:
        strict = rules.schema
        if not strict:
            losses.drop("tools.strict", "the model doesn't enforce a tool's schema")
        else:
            fitted = fit(schema, ANTHROPIC)
            schema = fitted.schema
            if fitted.lost:
                losses.change(f"tools.{tool.name}", f"not enforced, only described: {', '.join(fitted.lost)}")
    return Tool(
        tool.name,
        schema,
        description=tool.description if tool.description else UNSET,
        strict=True if strict else UNSET,
    )


def _tool_choice(request: ChatRequest, rules: Generation, losses: Losses) -> ToolChoice | UnsetType:
    choice = request.tool_choice
    own = request.passthrough
    if not request.tools and not (own is not None and own.dialect == "anthropic" and "tools" in own.fields):
        if choice is not None and choice.mode in ("required", "tool"):
            losses.drop("tool_choice", "there are no tools")
        return UNSET
    one = True if request.parallel_tool_calls is False else UNSET
    mode = "auto" if choice is None else choice.mode
    if mode in ("required", "tool") and not rules.forced_tools:
        losses.change("tool_choice", "the model can't be forced to call a tool: it may")
        mode = "auto"
    match mode:
        case "none":
            return ToolChoice("none")
        case "required":
            return ToolChoice("any", disable_parallel_tool_use=one)
        case "tool":
            assert choice is not None
            name = choice.name or (request.tools[0].name if request.tools else "")
            return ToolChoice("tool", name, disable_parallel_tool_use=one)
        case "auto":
            if choice is None and one is UNSET:
                return UNSET
            return ToolChoice("auto", disable_parallel_tool_use=one)
        case _:
            assert_never(mode)


def _stops(request: ChatRequest, losses: Losses) -> list[str]:
    stops = [stop for stop in request.sampling.stop if stop.strip()]
    if len(stops) < len(request.sampling.stop):
        losses.drop("stop", "the API refuses a stop sequence of white space")
    return stops


def _metadata(request: ChatRequest, losses: Losses) -> Metadata | UnsetType:
    given = {} if isinstance(request.metadata, UnsetType) else request.metadata
    user = request.user or given.get("user_id")
    if given.keys() - {"user_id"}:
        losses.drop("metadata", "the API takes only a user's id")
    return Metadata(user) if user else UNSET


def _unsendable(request: ChatRequest, losses: Losses) -> None:
    asked = request.sampling
    if asked.seed is not None:
        losses.drop("seed", "the API has none")
    if asked.presence_penalty:
        losses.drop("presence_penalty", "the API has none")
    if asked.frequency_penalty:
        losses.drop("frequency_penalty", "the API has none")
    if asked.logprobs or asked.top_logprobs:
        losses.drop("logprobs", "the API has none")
