"""Messages of the domain to the items of a request's `input`.

A message of the Responses API is one turn's text and files; calls, their outputs and thinking are items of their own
beside it, in the order in which they were said. Thinking goes back to its own family only, as the very item that it
came as.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final, TypeAlias, assert_never

from msgspec import DecodeError, Raw
from msgspec.json import Decoder

from llmwise.domain.messages import Document, Image, Message, Opaque, Part, Reasoning, Text, ToolCall, ToolResult
from llmwise.domain.models import ModelCard
from llmwise.providers.losses import Losses
from llmwise.providers.profiles import Profile
from llmwise.providers.responses.stream import ANNOTATION, ITEM, LOGPROBS
from llmwise.wire.responses import KIND

JSON: TypeAlias = dict[str, object]
"""An object to be encoded. Plain dicts and not the structs of `wire`, because items that only this family understands
are spliced in as the bytes they came in."""

MAX_ID: Final = 64
"""Characters of a `call_id`: FunctionCallOutputItemParam of OpenAI's OpenAPI description (August 2026)."""


def render(conversation: Iterable[Message], target: ModelCard, profile: Profile, losses: Losses) -> list[JSON | Raw]:
    """`conversation` as the value of `input`. Raises `UnsupportedInput` for an image or a document that the target
    can't see: the question would be another one without it."""
    items: list[JSON | Raw] = []
    for message in conversation:
        if message.name is not None:
            losses.note("messages.name", "the API has no names of participants")
        match message.role:
            case "assistant":
                _assistant(message.parts, items, losses)
            case "tool":
                _results(message.parts, items, target, losses)
            case "user" | "system" as role:
                _said(profile.system_role if role == "system" else role, message.parts, items, target, losses)
            case _:
                assert_never(message.role)
    return items


def _said(role: str, parts: Sequence[Part], items: list[JSON | Raw], target: ModelCard, losses: Losses) -> None:
    """A turn of the user or a system message. Whole items of this family keep their place in it."""
    content: list[object] = []
    for part in parts:
        if isinstance(part, ToolResult):
            _results([part], items, target, losses)
        elif isinstance(part, Opaque) and part.family == "responses" and not _is_content(part):
            items.append(Raw(part.json.encode()))
        elif (shown := _content(part, target, losses)) is not None:
            content.append(shown)
    if content:
        only = parts[0] if len(parts) == 1 else None
        items.append({"role": role, "content": only.text if isinstance(only, Text) else content})


def _content(part: Part, target: ModelCard, losses: Losses) -> object:
    match part:
        case Text():
            return {"type": "input_text", "text": part.text}
        case Image():
            if not target.capabilities.vision:
                raise losses.refuse("messages.image", "the model has no vision")
            url = part.url or f"data:{part.media_type or 'image/png'};base64,{part.data}"
            return {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}
        case Document():
            if not target.capabilities.documents:
                raise losses.refuse("messages.document", "the model reads no documents")
            if part.data is None:
                return {"type": "input_file", "file_url": part.url}
            data = f"data:{part.media_type or 'application/pdf'};base64,{part.data}"
            return {"type": "input_file", "filename": part.name or "document.pdf", "file_data": data}
        case Opaque():
            if part.family == "responses":
                return Raw(part.json.encode())
            losses.drop(f"messages.{part.kind}", f"only {part.family} understands it")
            return None
        case _:
            losses.drop("messages", f"{type(part).__name__} in a message of a user")
            return None


def _is_content(part: Opaque) -> bool:
    return part.kind.startswith("input_")


def _results(parts: Sequence[Part], items: list[JSON | Raw], target: ModelCard, losses: Losses) -> None:
    for part in parts:
        if isinstance(part, Opaque) and part.family == "responses":
            items.append(Raw(part.json.encode()))
            continue
        if not isinstance(part, ToolResult):
            losses.drop("messages", f"{type(part).__name__} in a message of the role tool")
            continue
        output: object
        if all(isinstance(piece, Text) for piece in part.content):
            text = "\n".join(piece.text for piece in part.content if isinstance(piece, Text))
            if part.is_error and not text[:5].lower().startswith("error"):
                text = f"Error: {text}"  # the format has no other place for it
            output = text
        else:
            output = [shown for p in part.content if (shown := _content(p, target, losses)) is not None]
        items.append({"type": "function_call_output", "call_id": call_id(part.tool_call_id), "output": output})


def _assistant(parts: Sequence[Part], items: list[JSON | Raw], losses: Losses) -> None:
    texts: list[str] = []
    for part in parts:
        if isinstance(part, Text):
            texts.append(part.text)
            continue
        if isinstance(part, Opaque):
            _opaque_said(part, texts, items, losses)
            continue
        _message(texts, items)
        match part:
            case ToolCall():
                call = {"call_id": call_id(part.id), "name": part.name, "arguments": part.arguments or "{}"}
                items.append({"type": "function_call", **call})
            case Reasoning():
                proof = part.signature or part.redacted
                if proof is not None and part.family in (None, "openai", "responses") and is_item(proof):
                    items.append(Raw(proof.encode()))
                else:
                    losses.note("messages.reasoning", "thinking of another model is not sent")
            case Image() | Document() | ToolResult():
                losses.drop("messages", f"{type(part).__name__} in a message of the role assistant")
            case _:
                assert_never(part)
    _message(texts, items)


def _message(texts: list[str], items: list[JSON | Raw], **besides: object) -> None:
    text = "\n".join(texts)
    texts.clear()
    if text:
        items.append({"role": "assistant", "content": text, **besides})


def _opaque_said(part: Opaque, texts: list[str], items: list[JSON | Raw], losses: Losses) -> None:
    if part.family != "responses":
        losses.drop(f"messages.{part.kind}", f"only {part.family} understands it")
    elif part.kind == ITEM:
        fields = _FIELDS.decode(part.json)
        if texts:
            _message(texts, items, **fields)
        elif items and isinstance(last := items[-1], dict):
            last.update(fields)
    elif part.kind not in (ANNOTATION, LOGPROBS):  # told about the answer, and no input
        _message(texts, items)
        items.append(Raw(part.json.encode()))


_FIELDS: Final = Decoder(dict[str, Any])


def is_item(proof: str) -> bool:
    """Whether a proof of thinking is an item of this API. No other family's is a JSON object of this type."""
    if not proof.startswith("{"):
        return False
    try:
        return KIND.decode(proof).type == "reasoning"
    except DecodeError:
        return False


def call_id(given: str) -> str:
    """The id as it is, or a short one made from it, the same for a call and its output."""
    return given if 0 < len(given) <= MAX_ID else f"call_{blake2b(given.encode(), digest_size=16).hexdigest()}"
