"""A chat request as Gemini's generateContent takes it. Pure: a request and a model in, bytes and warnings out.

Works below `https://generativelanguage.googleapis.com/v1beta` and below Vertex AI's
`.../projects/{project}/locations/{location}/publishers/google`. Safety settings are left to the project's own.
"""

from typing import assert_never
from urllib.parse import quote

from msgspec import UNSET, UnsetType
from msgspec.json import Encoder

from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Outgoing
from llmwise.domain.requests import ChatRequest, Effort
from llmwise.domain.requests import Tool as DomainTool
from llmwise.providers.gemini.contents import contents
from llmwise.providers.gemini.generations import Generation, Level, generation
from llmwise.providers.json_schema import GEMINI, Schema, fit
from llmwise.providers.losses import Losses, foreign
from llmwise.wire import gemini as wire

BUDGETS: dict[Effort, int] = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 32_768}
"""Effort words in tokens of thinking, for Gemini 2.5. Google's own OpenAI-compatible endpoint is reported to take low,
medium and high for 1K, 8K and 24K (https://feedback.typingmind.com/p/easy-as-pie-update-support-reasoning-effort-none-
low-medium, 2026-11-22); `minimal` and `xhigh` are put around them."""

LEVELS: dict[Effort, Level] = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH"}
"""Effort words as levels, for Gemini 3 and later."""

_ORDER: tuple[Level, ...] = ("MINIMAL", "LOW", "MEDIUM", "HIGH")
_ENCODER = Encoder()


def encode(request: ChatRequest, target: ModelCard) -> Outgoing:
    """Raises `UnsupportedInput` for a part of the conversation that the model can't take, and, if the request is
    strict, for anything that would be dropped or changed."""
    rules = generation(target.upstream)
    losses = Losses(target.id, request.strict)
    system, turns = contents(request.messages, rules, losses)
    declarations = [_declaration(tool, losses) for tool in request.tools]
    config = _config(request, target, rules, losses)
    if not isinstance(request.metadata, UnsetType) and request.metadata:
        losses.drop("metadata", "the API takes none")
    if request.user is not None:
        losses.note("user", "the API takes no user's id")
    foreign(request, "gemini", losses)
    body = wire.GenerateContentRequest(
        contents=turns,
        system_instruction=system,
        tools=[wire.Tool(declarations)] if declarations else UNSET,
        tool_config=_tool_config(request, losses),
        generation_config=UNSET if config == wire.GenerationConfig() else config,
    )
    call = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
    model = quote(target.upstream.removeprefix("models/"), safe="-._~@")
    return Outgoing(f"/models/{model}:{call}", _ENCODER.encode(body), (), losses.warnings)


def _declaration(tool: DomainTool, losses: Losses) -> wire.FunctionDeclaration:
    return wire.FunctionDeclaration(
        tool.name,
        description=tool.description if tool.description else UNSET,
        parameters_json_schema=_schema(tool.parameters, f"tools.{tool.name}", bool(tool.strict), losses)
        if tool.parameters
        else UNSET,
    )


def _schema(schema: Schema, field: str, enforced: bool, losses: Losses) -> Schema:
    """`schema` within Gemini's subset. What is lost matters only where the caller counts on the schema being kept."""
    fitted = fit(schema, GEMINI)
    if fitted.lost:
        report = losses.change if enforced else losses.note
        report(field, f"not enforced, only described: {', '.join(fitted.lost)}")
    return fitted.schema


def _tool_config(request: ChatRequest, losses: Losses) -> wire.ToolConfig | UnsetType:
    choice = request.tool_choice
    if request.parallel_tool_calls is False and request.tools:
        losses.drop("parallel_tool_calls", "the API can't forbid them")
    if not request.tools:
        if choice is not None and choice.mode in ("required", "tool"):
            losses.drop("tool_choice", "there are no tools")
        return UNSET
    strict = all(tool.strict for tool in request.tools)
    mode = "auto" if choice is None else choice.mode
    match mode:
        case "auto":
            if not strict:
                return UNSET if choice is None else _calling(wire.FunctionCallingConfig("AUTO"))
            return _calling(wire.FunctionCallingConfig("VALIDATED"))  # calls keep to the schema, or aren't made
        case "none":
            return _calling(wire.FunctionCallingConfig("NONE"))
        case "required":
            return _calling(wire.FunctionCallingConfig("ANY"))
        case "tool":
            named = [choice.name] if choice is not None and choice.name else UNSET
            return _calling(wire.FunctionCallingConfig("ANY", named))
        case _:
            assert_never(mode)


def _calling(config: wire.FunctionCallingConfig) -> wire.ToolConfig:
    return wire.ToolConfig(config)


def _config(request: ChatRequest, target: ModelCard, rules: Generation, losses: Losses) -> wire.GenerationConfig:
    asked = request.sampling
    if not rules.sampling:
        for field, value in (("temperature", asked.temperature), ("top_p", asked.top_p), ("top_k", asked.top_k)):
            if value is not None and value != 1:
                losses.drop(field, "the model ignores it")
    if not rules.penalties:
        for field, value in (
            ("presence_penalty", asked.presence_penalty),
            ("frequency_penalty", asked.frequency_penalty),
        ):
            if value:
                losses.drop(field, "the model refuses it")
    max_tokens = asked.max_tokens
    if max_tokens is not None and target.max_output is not None and max_tokens > target.max_output:
        losses.change("max_tokens", f"{max_tokens} is over the model's {target.max_output}")
        max_tokens = target.max_output
    mime_type, schema = _response(request, target, losses)
    return wire.GenerationConfig(
        temperature=_said(asked.temperature) if rules.sampling else UNSET,
        top_p=_said(asked.top_p) if rules.sampling else UNSET,
        top_k=UNSET if asked.top_k is None or not rules.sampling else asked.top_k,
        max_output_tokens=UNSET if max_tokens is None else max_tokens,
        stop_sequences=list(asked.stop) or UNSET,
        seed=UNSET if asked.seed is None else asked.seed,
        presence_penalty=_said(asked.presence_penalty) if rules.penalties else UNSET,
        frequency_penalty=_said(asked.frequency_penalty) if rules.penalties else UNSET,
        response_logprobs=True if asked.logprobs else UNSET,
        logprobs=asked.top_logprobs if asked.logprobs and asked.top_logprobs else UNSET,
        response_mime_type=mime_type,
        response_json_schema=schema,
        thinking_config=_thinking(request, rules, losses),
    )


def _said(value: float | None) -> float | UnsetType:
    return UNSET if value is None else value


def _response(request: ChatRequest, target: ModelCard, losses: Losses) -> tuple[str | UnsetType, Schema | UnsetType]:
    wanted = request.response_format
    if wanted is None or wanted.kind == "text":
        return UNSET, UNSET
    if wanted.kind == "json_object" or wanted.schema is None:
        return "application/json", UNSET
    if not target.capabilities.json_schema:
        losses.change("response_format", "the model has no JSON schema mode: it answers with any JSON")
        return "application/json", UNSET
    return "application/json", _schema(wanted.schema, "response_format.schema", True, losses)


def _thinking(request: ChatRequest, rules: Generation, losses: Losses) -> wire.ThinkingConfig | UnsetType:
    """A level or a budget, by generation. Thoughts are asked for with it: else they cost and don't show."""
    asked = request.thinking
    if asked is None:
        return UNSET
    off = asked.effort == "none" or asked.budget_tokens == 0
    if rules.levels:
        return _level(asked.effort, asked.budget_tokens, off, rules.levels, losses)
    if rules.budget is None:
        if not off:
            losses.drop("thinking", "the model has none")
        return UNSET
    least, most = rules.budget
    if off:
        if least:
            losses.change("thinking", f"the model always thinks: it is given its least, {least} tokens")
        return wire.ThinkingConfig(thinking_budget=least)
    if asked.budget_tokens is None and asked.effort is None:
        return wire.ThinkingConfig(include_thoughts=True)
    budget = asked.budget_tokens if asked.budget_tokens is not None else BUDGETS[asked.effort or "medium"]
    return wire.ThinkingConfig(include_thoughts=True, thinking_budget=max(least, min(budget, most)))


def _level(
    effort: Effort | None, budget: int | None, off: bool, levels: tuple[Level, ...], losses: Losses
) -> wire.ThinkingConfig:
    if off:
        if levels[0] != "MINIMAL":
            losses.change("thinking", f"the model always thinks: it is given its least level, {levels[0]}")
        return wire.ThinkingConfig(thinking_level=levels[0])
    if effort is None and budget is None:
        return wire.ThinkingConfig(include_thoughts=True)
    if effort is None or effort == "none":
        losses.change("thinking.budget_tokens", "the model doses its thinking by a level")
        effort = _word(budget or 0)
    rank = _ORDER.index(LEVELS[effort])
    level = next((level for level in levels if _ORDER.index(level) >= rank), levels[-1])
    return wire.ThinkingConfig(include_thoughts=True, thinking_level=level)


def _word(budget: int) -> Effort:
    return next((effort for effort, tokens in BUDGETS.items() if budget <= tokens), "xhigh")
