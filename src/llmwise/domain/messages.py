"""Messages and their parts, in no provider's shape.

The law of a conversation: parts keep the order in which they were said, tool arguments keep their bytes
(`ToolCall.arguments` is the JSON text as received, even when it is not valid JSON), and what only its
provider understands (signatures, encrypted reasoning) stays opaque and is marked with its family.
"""

from typing import Literal, TypeAlias

from msgspec import Struct

Family: TypeAlias = Literal["openai", "responses", "anthropic", "gemini"]
"""The wire formats that we speak to providers. Every vendor is one of them."""

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


class Text(Struct, frozen=True, tag="text", gc=False):
    """Text. `cache` asks the provider to cache the prompt up to here: a time to live, `5m` or `1h`."""

    text: str
    cache: Literal["5m", "1h"] | None = None


class Image(Struct, frozen=True, tag="image", gc=False):
    """An image: either `url` (http or https) or `data` (base64 text) with its `media_type`."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    detail: str | None = None


class Document(Struct, frozen=True, tag="document", gc=False):
    """A file for the model to read, mostly a PDF: either `url` or `data` (base64 text) with its `media_type`."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    name: str | None = None


class Reasoning(Struct, frozen=True, tag="reasoning", gc=False):
    """A model's thinking. `signature` and `redacted` are opaque proofs that only `family` accepts back,
    unmodified; `redacted` is thinking that the provider encrypted, and then `text` is empty."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    family: Family | None = None


class ToolCall(Struct, frozen=True, tag="tool_call", gc=False):
    """A call that the model wants made. `signature` is Gemini's thought signature, which rides on the call. `custom`:
    `arguments` are free text, and not JSON (OpenAI's custom tools)."""

    id: str
    name: str
    arguments: str
    signature: str | None = None
    custom: bool = False


class ToolResult(Struct, frozen=True, tag="tool_result", gc=False):
    """What the caller's tool answered to the call `tool_call_id`."""

    tool_call_id: str
    content: "tuple[Text | Image | Document | Opaque, ...]"
    is_error: bool = False
    name: str | None = None


class Opaque(Struct, frozen=True, tag="opaque", gc=False):
    """A part that only `family` understands (a server tool's block, say): its JSON text as received.
    Sent back to the same family, dropped with a warning for another."""

    family: Family
    kind: str
    json: str


Part: TypeAlias = Text | Image | Document | Reasoning | ToolCall | ToolResult | Opaque


class Message(Struct, frozen=True, gc=False):
    """One turn. A tool's answers are a message of role `tool` whose parts are `ToolResult`."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None

    @property
    def text(self) -> str:
        """The message's text parts, joined by newlines."""
        return "\n".join(part.text for part in self.parts if type(part) is Text)
