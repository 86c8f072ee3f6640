"""What is particular to a vendor or a family of models of the OpenAI format, as data.

A profile starts as its vendor's and is changed by the rules whose prefix its model's name has, in their order. A wrong
or missing fact is one line here, and every fact has a source. Where the sources are silent the profile allows: the
vendor's own refusal is clearer than a parameter that we left out for nothing.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from llmwise.domain.requests import Effort, Thinking

Knob: TypeAlias = Literal["none", "effort", "toggle", "toggle_effort", "openrouter"]
"""How thinking is asked for: not at all, `reasoning_effort`, `thinking: {type: enabled|disabled}`, both of these, or
OpenRouter's `reasoning` object."""

Replay: TypeAlias = Literal["none", "reasoning_content", "reasoning", "details", "thinking_parts"]
"""How earlier thinking goes back in an assistant message: not at all, as text in `reasoning_content` or `reasoning`, as
OpenRouter's `reasoning_details`, or as Mistral's content parts of type `thinking`."""


class Profile(Struct, frozen=True):
    """How to speak to one model at one vendor.

    max_tokens              the one name that is sent
    system_role             the role of system messages; `user` where the model has none
    developer_role          takes messages of the role `developer` too
    refuses                 parameters that are an error or do nothing
    refuses_thinking        the same, while the model thinks
    thinks                  it thinks unless told otherwise
    renames                 parameters that have another name there
    stream_usage            takes `stream_options.include_usage`; others report usage unasked
    efforts                 the words that it takes, in rising order
    replay_required         an assistant's tool call without its thinking is an error there
    tool_choices            what can be chosen; `auto` always can
    strict_tools            takes a function's `strict`
    message_name            takes a message's `name`
    documents               how a file is sent: OpenAI's `file`, Mistral's `document_url`; `False`: not at all
    document_urls           takes the address of a document, not only its bytes
    short_tool_ids          ids of tool calls are nine letters or digits
    assistant_after_tool    a user's message must not follow a tool's
    content_required        an assistant's message has content, be it empty
    cache_control           takes breakpoints for prompt caching
    responses_only          answers in OpenAI's Responses API and not in Chat Completions
    rewrites                bytes that a caller's own messages must not hold: with one of them they are encoded anew
    """

    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    system_role: Literal["system", "developer", "user"] = "system"
    developer_role: bool = False
    refuses: frozenset[str] = frozenset()
    refuses_thinking: frozenset[str] = frozenset()
    thinks: bool = False
    renames: tuple[tuple[str, str], ...] = ()
    stream_usage: bool = True
    knob: Knob = "effort"
    efforts: tuple[Effort, ...] = ("none", "minimal", "low", "medium", "high", "xhigh")
    replay: Replay = "none"
    replay_required: bool = False
    tool_choices: frozenset[str] = frozenset({"auto", "none", "required", "tool"})
    strict_tools: bool = True
    message_name: bool = True
    json_schema: bool = True
    documents: Literal["file", "document_url", False] = "file"
    document_urls: bool = False
    short_tool_ids: bool = False
    assistant_after_tool: bool = False
    content_required: bool = False
    cache_control: bool = False
    responses_only: bool = False
    rewrites: tuple[bytes, ...] = ()


class _Rule(NamedTuple):
    vendor: str
    prefixes: tuple[str, ...]
    changes: Mapping[str, Any]


_SAMPLING: Final = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty"})
_LOGPROBS: Final = frozenset({"logprobs", "top_logprobs"})
_PENALTIES: Final = frozenset({"presence_penalty", "frequency_penalty"})
_THINKING: Final = _SAMPLING | _LOGPROBS | {"logit_bias"}
_NO_TOP_K: Final = frozenset({"top_k"})

_VENDORS: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        # max_tokens is deprecated, and an error for reasoning models (CreateChatCompletionRequest, August 2026).
        # A thinking part has no place in a request of this API.
        "openai": Profile(max_tokens="max_completion_tokens", developer_role=True, refuses=_NO_TOP_K, knob="none"),
        # https://api-docs.deepseek.com/guides/thinking_mode and .../json_mode (2026-11-22). The thinking of turns with
        # tool calls has to come back, other thinking is ignored. A message without `content` does not deserialise.
        "deepseek": Profile(
            refuses=_NO_TOP_K | {"seed", "user", "parallel_tool_calls"},
            refuses_thinking=_SAMPLING,
            thinks=True,
            knob="toggle_effort",
            efforts=("none", "low", "high"),
            replay="reasoning_content",
            replay_required=True,
            json_schema=False,
            documents=False,
            content_required=True,
        ),
        # https://docs.mistral.ai/api (2026-11-22): unknown parameters are an error 422; usage comes unasked.
        # Tool ids: "must be a-z, A-Z, 0-9, with a length of 9" (https://github.com/langchain-ai/langchain/pull/24668).
        # Roles: "Unexpected role 'user' after role 'tool'"; recorded clients put an assistant's turn between (2026-08).
        "mistral": Profile(
            refuses=_NO_TOP_K | _LOGPROBS | {"user", "logit_bias"},
            renames=(("seed", "random_seed"),),
            stream_usage=False,
            efforts=("none", "high"),
            replay="thinking_parts",
            message_name=False,
            documents="document_url",
            document_urls=True,
            short_tool_ids=True,
            assistant_after_tool=True,
        ),
        # https://docs.x.ai/docs/api-reference and .../guides/reasoning (2026-11-22)
        "xai": Profile(
            max_tokens="max_completion_tokens",
            refuses=_NO_TOP_K,
            refuses_thinking=_PENALTIES | {"stop"},
            knob="none",
            documents=False,
        ),
        # https://console.groq.com/docs/openai (2026-11-22): these are an error 400
        "groq": Profile(
            max_tokens="max_completion_tokens",
            refuses=_NO_TOP_K | _LOGPROBS | {"logit_bias"},
            knob="none",
            replay="reasoning",
            message_name=False,
            documents=False,
        ),
        # https://docs.together.ai/reference/chat-completions-1 (2026-11-22)
        "together": Profile(efforts=("low", "medium", "high"), documents=False),
        # https://docs.fireworks.ai/guides/reasoning (2026-11-22)
        "fireworks": Profile(efforts=("none", "low", "medium", "high"), replay="reasoning_content", documents=False),
        # https://inference-docs.cerebras.ai/resources/openai (2026-11-22): these are an error 400
        "cerebras": Profile(
            max_tokens="max_completion_tokens",
            refuses=_NO_TOP_K | _PENALTIES | {"logit_bias"},
            knob="none",
            replay="reasoning",
            documents=False,
        ),
        # https://platform.moonshot.ai/docs/api/chat (2026-11-22)
        "moonshot": Profile(
            max_tokens="max_completion_tokens",
            refuses=_NO_TOP_K | {"seed", "user"},
            knob="none",
            strict_tools=False,
            documents=False,
        ),
        # https://docs.z.ai/api-reference/llm/chat-completion (2026-11-22): `tool_choice` is `auto`, JSON has no schema
        "zai": Profile(
            refuses=_NO_TOP_K | _PENALTIES | _LOGPROBS | {"seed", "logit_bias", "parallel_tool_calls"},
            knob="toggle",
            replay="reasoning_content",
            tool_choices=frozenset({"auto"}),
            strict_tools=False,
            message_name=False,
            json_schema=False,
            documents=False,
        ),
        # https://openrouter.ai/docs/use-cases/reasoning-tokens, .../features/prompt-caching and .../multimodal/pdfs
        # (2026-11-22). It leaves out by itself what a model can't take.
        "openrouter": Profile(
            developer_role=True, knob="openrouter", replay="details", cache_control=True, document_urls=True
        ),
        # https://docs.ollama.com/api/openai-compatibility (2026-11-22)
        "ollama": Profile(
            refuses=frozenset({"top_k", "user", "logit_bias", "parallel_tool_calls"}),
            efforts=("none", "low", "medium", "high"),
            replay="reasoning",
            documents=False,
        ),
    }
)
"""A vendor without a row (any server at a configured address) gets the plain profile."""

_RULES: Final[tuple[_Rule, ...]] = (
    # https://platform.openai.com/docs/guides/reasoning and .../latest-model (2026-11-22): reasoning models take only
    # the defaults of the sampling parameters; GPT-5.1 and later take others while the effort is `none`.
    # `stop`: "Not supported with latest reasoning models o3 and o4-mini" (OpenAPI description, August 2026).
    _Rule(
        "openai",
        ("o1", "o3", "o4"),
        {
            "system_role": "developer",
            "refuses": _NO_TOP_K | _THINKING | {"parallel_tool_calls"},
            "knob": "effort",
            "efforts": ("low", "medium", "high"),
        },
    ),
    _Rule("openai", ("o3", "o4"), {"refuses": _NO_TOP_K | _THINKING | {"parallel_tool_calls", "stop"}}),
    # Recorded 2025: "'messages[0].role' does not support 'developer' with this model", nor 'system'.
    _Rule("openai", ("o1-mini", "o1-preview"), {"system_role": "user", "developer_role": False, "knob": "none"}),
    _Rule(
        "openai",
        ("gpt-5",),
        {
            "system_role": "developer",
            "refuses": _NO_TOP_K | _THINKING | {"stop"},
            "knob": "effort",
            "efforts": ("minimal", "low", "medium", "high"),
        },
    ),
    # https://learn.microsoft.com/en-us/javascript/api/@azure/ai-projects/reasoningeffort (2026-11-22)
    _Rule("openai", ("gpt-5-pro",), {"efforts": ("high",)}),
    _Rule("openai", ("gpt-5-codex",), {"efforts": ("low", "medium", "high")}),
    _Rule(
        "openai",
        ("gpt-5.",),
        {
            "refuses": _NO_TOP_K | {"stop"},
            "refuses_thinking": _THINKING,
            "thinks": True,
            "efforts": ("none", "low", "medium", "high", "xhigh"),
        },
    ),
    _Rule("openai", ("gpt-5.1",), {"thinks": False, "efforts": ("none", "low", "medium", "high")}),
    _Rule("openai", ("gpt-5.2", "gpt-5.4"), {"thinks": False}),
    _Rule("openai", ("gpt-5.2-pro", "gpt-5.4-pro"), {"thinks": True, "efforts": ("medium", "high", "xhigh")}),
    # https://platform.openai.com/docs/models: "Responses API only"; for the Codex models also https://neon.com/docs/ai-
    # gateway/openai-responses, for o1-pro and o3-pro https://github.com/sigoden/aichat/pull/1318 (2026-11-22). Where a
    # model has both formats after all, this one is right too.
    _Rule(
        "openai",
        (
            *("o1-pro", "o3-pro", "o3-deep-research", "o4-mini-deep-research", "codex-", "computer-use-preview"),
            *("gpt-5-pro", "gpt-5.2-pro", "gpt-5.4-pro"),
            *("gpt-5-codex", "gpt-5.1-codex", "gpt-5.2-codex", "gpt-5.3-codex"),
        ),
        {"responses_only": True},
    ),
    # Chat variants don't reason: https://github.com/BerriAI/litellm/issues/13781 (2026-11-22)
    _Rule("openai", ("gpt-5-chat",), {"system_role": "system", "refuses": _NO_TOP_K, "knob": "none"}),
    # https://platform.openai.com/docs/guides/structured-outputs (2026-11-22): from gpt-4o-2024-08-06 on
    _Rule("openai", ("gpt-3.5", "gpt-4-", "gpt-4o-2024-05-13"), {"json_schema": False}),
    # https://docs.x.ai/docs/guides/reasoning (2026-11-22)
    _Rule("xai", ("grok-3-mini",), {"thinks": True, "knob": "effort", "efforts": ("low", "high")}),
    _Rule("xai", ("grok-4", "grok-code"), {"thinks": True}),
    _Rule("xai", ("grok-4.3",), {"knob": "effort", "efforts": ("none", "low", "medium", "high")}),
    _Rule("xai", ("grok-4.5",), {"knob": "effort", "efforts": ("low", "medium", "high")}),
    # https://console.groq.com/docs/reasoning (2026-11-22)
    _Rule("groq", ("openai/gpt-oss",), {"knob": "effort", "efforts": ("low", "medium", "high")}),
    _Rule("groq", ("qwen/qwen3",), {"knob": "effort", "efforts": ("none",)}),
    _Rule("cerebras", ("gpt-oss",), {"knob": "effort", "efforts": ("low", "medium", "high")}),
    _Rule("cerebras", ("zai-glm",), {"knob": "effort", "efforts": ("none",)}),
    # https://platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model and
    # https://java.agentscope.io/v2/en/integration/model/kimi (2026-11-22): sampling is fixed, thinking has to come back
    _Rule(
        "moonshot",
        ("kimi-",),
        {
            "refuses": _NO_TOP_K | _SAMPLING | {"seed", "user"},
            "knob": "toggle",
            "replay": "reasoning_content",
            "replay_required": True,
            "tool_choices": frozenset({"auto", "none"}),
        },
    ),
    _Rule("moonshot", ("kimi-k3",), {"knob": "effort", "efforts": ("low", "high")}),
    # https://docs.z.ai/guides/capabilities/thinking-mode (2026-11-22): effort from GLM-5.2 on, GLM-5.3 always thinks
    _Rule("zai", ("glm-5.2",), {"knob": "toggle_effort"}),
    _Rule("zai", ("glm-5.3",), {"knob": "effort", "efforts": ("low", "high")}),
    _Rule("mistral", ("magistral",), {"knob": "none"}),
)


@lru_cache(maxsize=1024)
def profile_for(vendor: str, model: str) -> Profile:
    """The profile of `model`, by its name there, at `vendor`, by its name in the registry."""
    profile = _VENDORS.get(vendor, Profile())
    for rule in _RULES:
        if rule.vendor == vendor and model.startswith(rule.prefixes):
            profile = replace(profile, **rule.changes)
    return replace(profile, rewrites=tuple(_rewrites(profile)))


def _rewrites(profile: Profile) -> Iterable[bytes]:
    """In JSON a quote inside a text has a backslash before it, so that none of these can be a text."""
    if not profile.developer_role:
        yield b'"developer"'
    if profile.system_role == "user":
        yield b'"system"'
    if profile.replay == "none":
        yield b'"reasoning'
    else:
        names = {"details": "reasoning_details", "thinking_parts": None}
        taken = names.get(profile.replay, profile.replay)
        yield from (b'"%s"' % name.encode() for name in _REASONING if name != taken)
    if profile.replay_required or profile.short_tool_ids:
        yield b'"tool_calls"'
    if not profile.message_name:
        yield b'"name"'
    if profile.documents != "file":
        yield b'"file"'
    if not profile.cache_control:
        yield b'"cache_control"'


_REASONING: Final = ("reasoning", "reasoning_content", "reasoning_details")

BUDGETS: Final[Mapping[Effort, int]] = MappingProxyType(
    {"none": 0, "minimal": 1024, "low": 2048, "medium": 8192, "high": 24576, "xhigh": 32768}
)
"""Words of effort as tokens of thinking. Low to high after what Google's OpenAI-compatible endpoint makes of them
(1k, 8k, 24k: https://ai.google.dev/gemini-api/docs/openai, 2026-11-22), `low` apart from `minimal`, which is the least
that Anthropic takes; `xhigh` is the most that Gemini 2.5 Pro takes."""


def budget_of(thinking: Thinking) -> int | None:
    """Tokens of thinking: as said, or by the word; `None` where neither was said."""
    if thinking.budget_tokens is not None:
        return thinking.budget_tokens
    return None if thinking.effort is None else BUDGETS[thinking.effort]


def effort_of(thinking: Thinking) -> Effort | None:
    """The word: as said, or the least one whose budget is enough; `None` where neither was said."""
    if thinking.effort is not None or thinking.budget_tokens is None:
        return thinking.effort
    return next((effort for effort, budget in BUDGETS.items() if budget >= thinking.budget_tokens), "xhigh")


def nearest_effort(wanted: Effort, taken: tuple[Effort, ...]) -> Effort | None:
    """The word among `taken` that is nearest to `wanted`, the higher of two; `None` when nothing is near: thinking was
    asked for and can only be switched off."""
    if wanted in taken:
        return wanted
    order = list(BUDGETS)
    near = [effort for effort in taken if effort != "none"]
    if not near:
        return None
    return min(near, key=lambda effort: (abs(order.index(effort) - order.index(wanted)), -order.index(effort)))
