"""What a caller asks for, in no dialect's shape. `None` always means "not said": it is never sent on."""

from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from llmwise.domain.messages import Message, Text

Goal: TypeAlias = Literal["balanced", "latency", "cost", "reliability"]
Strategy: TypeAlias = Literal["rate-limit", "latency", "cost", "round-robin"]
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
Dialect: TypeAlias = Literal["native", "openai", "responses", "anthropic"]

AUTO = "auto"
"""The model name that lets the gateway choose."""


class Tool(Struct, frozen=True, gc=False):
    """A function that the model may call. `parameters` is a JSON Schema, as the caller wrote it."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoice(Struct, frozen=True, gc=False):
    """`auto`, `none`, `required` (some tool), or `tool` with the `name` of the one that must be called."""

    mode: Literal["auto", "none", "required", "tool"]
    name: str | None = None


class ResponseFormat(Struct, frozen=True, gc=False):
    """`text`, any `json_object`, or an instance of `schema` (a JSON Schema)."""

    kind: Literal["text", "json_object", "json_schema"]
    schema: dict[str, Any] | None = None
    name: str | None = None
    strict: bool | None = None


class Thinking(Struct, frozen=True, gc=False):
    """How much to think: an effort word or a budget in tokens; the other is derived by the provider's profile."""

    effort: Effort | None = None
    budget_tokens: int | None = None


class Sampling(Struct, frozen=True, gc=False):
    """How tokens are drawn and when to stop. Temperature is 0 to 2, top_p 0 to 1, penalties -2 to 2."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class Routing(Struct, frozen=True, gc=False):
    """A chain asked for by the caller: models tried after the requested one, in the order that `strategy` makes."""

    fallback: tuple[str, ...] = ()
    strategy: Strategy = "rate-limit"


class Passthrough(Struct, frozen=True, gc=False):
    """The caller's own body, kept for the hop to a provider that speaks the same dialect.

    `fields` maps each top-level key to its JSON text; keys that the gateway does not know are kept too. `headers` are
    those of the caller's that the dialect's own provider understands. `details` are what the body says deeper down and
    only that dialect can say: the field's path, and why no other family is told.
    """

    dialect: Dialect
    fields: dict[str, bytes]
    headers: tuple[tuple[str, str], ...] = ()
    details: tuple[tuple[str, str], ...] = ()


class ChatRequest(Struct, frozen=True, gc=False):
    """One question to one model, whichever endpoint it came through.

    `model` is the *requested* name: a catalog id, an alias or `auto`. `goal` weighs candidates when the
    gateway chooses. `strict` refuses what a target can't take instead of dropping it with a warning.
    `verbatim`: the caller's endpoint passes on the bytes of a provider that speaks `passthrough.dialect` (see
    `events.Verbatim`); whoever asks on another's behalf clears it.
    """

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    sampling: Sampling = Sampling()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    thinking: Thinking | None = None
    routing: Routing | None = None
    goal: Goal | None = None
    user: str | None = None
    metadata: dict[str, str] | UnsetType = UNSET
    conversation_id: str | None = None
    strict: bool = False
    passthrough: Passthrough | None = None
    verbatim: bool = False


class EmbeddingRequest(Struct, frozen=True, gc=False):
    """Texts to be turned into vectors, one for each of `inputs`, which are never none. An input that is numbers is text
    as the model's own tokens.

    `dimensions` is the length of a vector, where the model lets it be chosen. `packed`: the caller wants vectors as
    base64; a provider that can say them so is asked to, so that nobody converts.
    """

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    packed: bool = False
    user: str | None = None
    routing: Routing | None = None
    strict: bool = False
    passthrough: Passthrough | None = None

    # What the account of any request asks of it.

    @property
    def stream(self) -> bool:
        return False

    @property
    def goal(self) -> Goal | None:
        return None

    @property
    def conversation_id(self) -> str | None:
        return None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The texts as words of the user; tokens have none."""
        return tuple([Message("user", (Text(given),)) for given in self.inputs if isinstance(given, str)])


Request: TypeAlias = ChatRequest | EmbeddingRequest
"""What the engine runs."""
