"""Messages of the domain to messages of Chat Completions, as the target's vendor takes them."""

from base64 import b64decode
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final, TypeAlias, assert_never

from msgspec import DecodeError, Raw
from msgspec.json import Decoder
from msgspec.structs import replace

from llmwise.domain.messages import Document, Image, Message, Opaque, Part, Reasoning, Text, ToolCall, ToolResult
from llmwise.domain.models import ModelCard
from llmwise.providers.losses import Losses
from llmwise.providers.profiles import Profile
from llmwise.wire.openai import ReasoningDetail

JSON: TypeAlias = dict[str, object]
"""An object to be encoded. Plain dicts and not the structs of `wire`, because parts that only the vendor understands
are spliced in as the bytes they came in."""


def render(conversation: Iterable[Message], target: ModelCard, profile: Profile, losses: Losses) -> list[JSON]:
    """`conversation` as the value of `messages`. Raises `UnsupportedInput` for an image or a document that the target
    can't see: the question would be another one without it."""
    messages: list[JSON] = []
    media: list[object] = []  # images and documents out of tool results, due after the last result of a turn
    after_tool = False
    for message in conversation:
        if message.role == "tool":
            _tool_results(message, messages, media, target, profile, losses)
            after_tool = True
            continue
        if media:
            _show(media, messages, profile)
            media = []
        elif after_tool and profile.assistant_after_tool and message.role == "user":
            messages.append(_BRIDGE)
        after_tool = False
        if message.role == "assistant":
            messages.append(_assistant(message, profile, losses))
        else:
            role = profile.system_role if message.role == "system" else message.role
            if any(type(part) is ToolResult for part in message.parts):
                raise losses.refuse("messages", f"a tool's result in a message of the role {message.role}")
            content = _content(message.parts, target, profile, losses)
            if not content and message.parts and not any(type(part) is Text for part in message.parts):
                continue  # nothing is left of it, which is an error here
            turn: JSON = {"role": role, "content": content}
            if message.name is not None and profile.message_name:
                turn["name"] = message.name
            messages.append(turn)
    if media:
        _show(media, messages, profile)
    return messages


_BRIDGE: Final[JSON] = {"role": "assistant", "content": "OK"}


def _show(media: list[object], messages: list[JSON], profile: Profile) -> None:
    """A tool's message takes text only (ChatCompletionRequestToolMessage, August 2026): the user shows the rest."""
    if profile.assistant_after_tool:
        messages.append(_BRIDGE)
    messages.append({"role": "user", "content": media})


def _tool_results(
    message: Message, messages: list[JSON], media: list[object], target: ModelCard, profile: Profile, losses: Losses
) -> None:
    for result in message.parts:
        if type(result) is not ToolResult:
            kind = result.kind if isinstance(result, Opaque) else type(result).__name__
            losses.drop(f"messages.{kind}", "it has no place in a message of the role tool")
            continue
        texts, shown = [], []
        for part in result.content:
            if isinstance(part, Text):
                texts.append(part.text)
            elif isinstance(part, Opaque):
                losses.change(f"messages.tool_result.{part.kind}", "a block of another format is sent as its JSON")
                texts.append(part.json)
            else:
                shown.append(part)
        if shown:
            media.append({"type": "text", "text": f"Files returned by the tool call {result.tool_call_id}:"})
            media.extend(_part(part, target, profile, losses) for part in shown)
            texts = texts or ["See the files in the next message of the user."]
        text = "\n".join(texts)
        if result.is_error and not text[:5].lower().startswith("error"):
            text = f"Error: {text}"  # the format has no other place for it
        messages.append({"role": "tool", "tool_call_id": _tool_id(result.tool_call_id, profile), "content": text})


def _content(parts: Sequence[Part], target: ModelCard, profile: Profile, losses: Losses) -> str | list[object]:
    """Text alone as a string, which every vendor takes; anything else as a list of parts."""
    if len(parts) == 1:
        only = parts[0]
        if type(only) is Text and (only.cache is None or not profile.cache_control):
            return only.text
    elif not parts:
        return ""
    content = [_part(part, target, profile, losses) for part in parts]
    return [part for part in content if part is not None]


def _part(part: Part, target: ModelCard, profile: Profile, losses: Losses) -> object:
    match part:
        case Text():
            text: JSON = {"type": "text", "text": part.text}
            if part.cache is not None and profile.cache_control:
                text["cache_control"] = {"type": "ephemeral", "ttl": part.cache}
            return text
        case Image():
            if not target.capabilities.vision:
                raise losses.refuse("messages.image", "the model has no vision")
            image: JSON = {"url": part.url or f"data:{_image_type(part)};base64,{part.data}"}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case Document():
            return _document(part, target, profile, losses)
        case Opaque():
            if part.family == "openai":
                return Raw(part.json.encode())
            losses.drop(f"messages.{part.kind}", f"only {part.family} understands it")
            return None
        case _:
            losses.drop("messages", f"{type(part).__name__} in a message of a user")
            return None


def _document(part: Document, target: ModelCard, profile: Profile, losses: Losses) -> JSON:
    if not target.capabilities.documents or profile.documents is False:
        raise losses.refuse("messages.document", "the model reads no documents")
    if part.data is None and not profile.document_urls:
        raise losses.refuse("messages.document", "the provider fetches no documents: send the bytes")
    where = part.url if part.data is None else f"data:{part.media_type or 'application/pdf'};base64,{part.data}"
    if profile.documents == "document_url":
        return {"type": "document_url", "document_url": where}
    return {"type": "file", "file": {"filename": part.name or "document.pdf", "file_data": where}}


_IMAGE_MAGIC: Final = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


def _image_type(part: Image) -> str:
    """As said, or by the first bytes: a data URL needs a type, and a wrong one is an error at some vendors."""
    if part.media_type is not None:
        return part.media_type
    try:
        head = b64decode((part.data or "")[:8])
    except ValueError:
        head = b""
    return next((kind for magic, kind in _IMAGE_MAGIC if head.startswith(magic)), "image/png")


def _assistant(message: Message, profile: Profile, losses: Losses) -> JSON:
    texts: list[str] = []
    calls: list[JSON] = []
    thoughts: list[Reasoning] = []
    turn: JSON = {"role": "assistant"}
    for part in message.parts:
        match part:
            case Text():
                texts.append(part.text)
            case ToolCall():
                arguments = part.arguments or "{}"
                function = {"name": part.name, "arguments": arguments}
                calls.append({"id": _tool_id(part.id, profile), "type": "function", "function": function})
            case Reasoning():
                thoughts.append(part)
            case Opaque():
                _opaque_said(part, turn, profile, losses)
            case Image() | Document() | ToolResult():
                losses.drop("messages", f"{type(part).__name__} in a message of the role assistant")
            case _:
                assert_never(part)
    if texts or profile.content_required or not calls:
        turn["content"] = "\n".join(texts)
    if thoughts:
        _replay(thoughts, turn, profile, losses)
    if calls:
        turn["tool_calls"] = calls
        if profile.replay_required and "reasoning_content" not in turn:
            turn["reasoning_content"] = " "  # thought by another model, or not at all; an empty one is an error too
    return turn


def _opaque_said(part: Opaque, turn: JSON, profile: Profile, losses: Losses) -> None:
    """What an answer carried beside its text. OpenRouter takes annotations back (a parsed file is not parsed and paid
    twice: https://openrouter.ai/docs/features/multimodal/pdfs, 2026-11-22); the rest is no input anywhere."""
    if part.family != "openai":
        losses.drop(f"messages.{part.kind}", f"only {part.family} understands it")
    elif part.kind == "annotations" and profile.replay == "details":
        turn["annotations"] = Raw(part.json.encode())
    elif part.kind not in _NOT_CONVERSATION:
        losses.drop(f"messages.{part.kind}", "the provider doesn't take it back")


_NOT_CONVERSATION: Final = frozenset({"annotations", "logprobs", "executed_tools"})


def _replay(thoughts: list[Reasoning], turn: JSON, profile: Profile, losses: Losses) -> None:
    text = "\n".join(thought.text for thought in thoughts if thought.text)
    match profile.replay:
        case "none":
            losses.note("messages.reasoning", "the provider takes no earlier thinking")
        case "details":
            details = [detail for thought in thoughts if (detail := _detail(thought, losses)) is not None]
            if details:
                turn["reasoning_details"] = details
        case "thinking_parts":
            thinking = {"type": "thinking", "thinking": [{"type": "text", "text": text}]}
            if text:
                said = turn.get("content")
                turn["content"] = [thinking, {"type": "text", "text": said}] if said else [thinking]
        case "reasoning" | "reasoning_content":
            if text:
                turn[profile.replay] = text
        case _:
            assert_never(profile.replay)


def _detail(thought: Reasoning, losses: Losses) -> ReasoningDetail | None:
    """The `reasoning_details` that `stream` made the thought of: its proof is the detail without its text."""
    proof = thought.signature or thought.redacted
    if proof is None:
        return ReasoningDetail("reasoning.text", text=thought.text)
    try:
        detail = _PROOF.decode(proof)
    except DecodeError:  # of a family whose proofs are not JSON
        losses.note("messages.reasoning", "its signature is another family's")
        return None
    match detail.type:
        case "reasoning.summary":
            return replace(detail, summary=thought.text)
        case "reasoning.text":
            return replace(detail, text=thought.text)
        case _:
            return detail


_PROOF: Final = Decoder(ReasoningDetail)


def _tool_id(call_id: str, profile: Profile) -> str:
    """The id as it is, or nine letters and digits made from it, the same for a call and its result."""
    if not profile.short_tool_ids or (len(call_id) == 9 and call_id.isascii() and call_id.isalnum()):
        return call_id
    return blake2b(call_id.encode(), digest_size=5).hexdigest()[:9]
