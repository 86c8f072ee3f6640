"""Messages to turns: the conversation in Anthropic's grammar.

What the API wants: system text at the top, turns of user and assistant, no empty text, tool results first in their
turn, thinking first in its turn and unmodified. Decisions where it leaves a choice:

- A system message in the middle keeps its place: as a turn of role `system` where the model takes one and the place is
  allowed (after a user turn, and last or before the assistant's), else inside a user turn, marked as an instruction.
- Consecutive messages of one role become one turn, as the API itself would make them.
- A leading assistant turn is sent as it is: the API takes it (recorded 2026-08, claude-sonnet-4-5, status 200).
- Thinking goes back to its own family only. A foreign family's, or one without a signature, stays at home.
"""

import re
from binascii import Error as BinasciiError
from binascii import a2b_base64
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Literal, TypeAlias, assert_never

from msgspec import UNSET, DecodeError, Raw, UnsetType
from msgspec.json import Decoder, encode

from llmwise.domain.messages import Document, Image, Message, Opaque, Part, Reasoning, Text, ToolCall, ToolResult
from llmwise.providers.anthropic.generations import Generation
from llmwise.providers.losses import Losses
from llmwise.wire.anthropic import (
    Block,
    CacheControl,
    DocumentBlock,
    ImageBlock,
    RedactedThinkingBlock,
    Source,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    Turn,
)

CITATION = "citation"
"""The kind of an opaque part that is no block of its own: it belongs to the text before it."""

_Role: TypeAlias = Literal["user", "assistant", "system"]
_Blocks: TypeAlias = "list[Block | Raw]"

_OBJECT = Decoder(dict[str, Raw])
_TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
_IMAGES = frozenset(("image/jpeg", "image/png", "image/gif", "image/webp"))
# The first base64 characters of each format's signature.
_MAGIC = (("iVBORw0KGgo", "image/png"), ("/9j/", "image/jpeg"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp"))
_EMPTY_INPUT = Raw(b"{}")


def conversation(messages: Sequence[Message], rules: Generation, losses: Losses) -> tuple[list[TextBlock], list[Turn]]:
    """The system text and the turns. Raises `UnsupportedInput` for a part that can be neither sent nor left out."""
    body = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    system = _texts(part for message in messages[:body] for part in message.parts)
    turns: list[tuple[_Role, _Blocks]] = []
    for i in range(body, len(messages)):
        message = messages[i]
        if message.name is not None:
            losses.note("messages.name", "the API has no names of participants")
        role, blocks = _turn(message, messages, i, rules, losses)
        if not blocks:
            continue
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, blocks))
    if not turns and system:
        losses.change("messages", "there were only system messages: they are sent as the user's")
        turns, system = [("user", list(system))], []
    _end(turns, rules, losses)
    return system, [Turn(role, _ordered(role, blocks)) for role, blocks in turns]


def faithful(messages: Sequence[Message]) -> bool:
    """Whether a conversation of Anthropic's own format may go back as it came: nothing in it is of another family's
    making, and nothing stands where the API would refuse it. What a model doesn't take is told by `Losses` instead."""
    for message in messages:
        results = message.role == "tool"
        for part in message.parts:
            match part:
                case Text():
                    if not part.text.strip():
                        return False
                case Reasoning():
                    if part.family != "anthropic":
                        return False
                case ToolCall():
                    if not _TOOL_ID.fullmatch(part.id):
                        return False
                case ToolResult():
                    empty = any(isinstance(piece, Text) and not piece.text.strip() for piece in part.content)
                    if not results or empty or not _TOOL_ID.fullmatch(part.tool_call_id):
                        return False
                case _:
                    pass
    last = messages[-1]
    return not (last.role == "assistant" and last.parts and _trails(last.parts[-1]))


def _trails(part: Part) -> bool:
    return isinstance(part, Text) and part.text != part.text.rstrip()


def thinks_first(turn: Turn) -> bool:
    """Whether a turn begins with thinking, as a model with a thinking budget demands of an open tool call."""
    return isinstance(turn.content[0], (ThinkingBlock, RedactedThinkingBlock))


def calls_tools(turn: Turn) -> bool:
    return any(isinstance(block, ToolUseBlock) for block in turn.content)


def _turn(
    message: Message, messages: Sequence[Message], i: int, rules: Generation, losses: Losses
) -> tuple[_Role, _Blocks]:
    match message.role:
        case "assistant":
            return "assistant", _blocks(message.parts, losses)
        case "user" | "tool":
            return "user", _blocks(message.parts, losses)
        case "system":
            texts = _texts(message.parts)
            if rules.system_turns and _may_be_system(messages, i):
                return "system", list(texts)
            if texts:
                losses.note("messages.system", "a system message in the middle is sent inside a user turn")
            return "user", [TextBlock(f"<system>\n{text.text}\n</system>", text.cache_control) for text in texts]
        case _:
            assert_never(message.role)


def _may_be_system(messages: Sequence[Message], i: int) -> bool:
    before = next((m.role for m in reversed(messages[:i]) if m.role != "system"), None)
    after = next((m.role for m in messages[i + 1 :] if m.role != "system"), None)
    return before in ("user", "tool") and after in (None, "assistant")


def _end(turns: list[tuple[_Role, _Blocks]], rules: Generation, losses: Losses) -> None:
    """A last turn of the assistant is the start of the answer, for the models that continue one."""
    if not turns or turns[-1][0] != "assistant":
        return
    blocks = turns[-1][1]
    if not rules.prefill:
        losses.change("messages", "the model doesn't continue an assistant's turn: it is asked to, in a user turn")
        turns.append(("user", [TextBlock("Continue exactly where your last message ended.")]))
    elif isinstance(last := blocks[-1], TextBlock):
        blocks[-1] = TextBlock(last.text.rstrip(), last.cache_control, last.citations)  # else 400


def _ordered(role: _Role, blocks: _Blocks) -> _Blocks:
    """Tool results lead the user's turn. Thinking leads the assistant's, which is only rearranged if it doesn't: the
    order within interleaved thinking is the model's own."""
    first: tuple[type, ...]
    if role == "user":
        first = (ToolResultBlock,)
    elif role == "assistant" and not isinstance(blocks[0], (ThinkingBlock, RedactedThinkingBlock)):
        first = (ThinkingBlock, RedactedThinkingBlock)
    else:
        return blocks
    return sorted(blocks, key=lambda block: not isinstance(block, first))


def _texts(parts: Iterable[Part]) -> list[TextBlock]:
    return [_text(part) for part in parts if isinstance(part, Text) and part.text.strip()]


def _text(part: Text) -> TextBlock:
    return TextBlock(part.text, _cache(part))


def _cache(part: Text) -> CacheControl | UnsetType:
    if part.cache is None:
        return UNSET
    return CacheControl(ttl="1h") if part.cache == "1h" else CacheControl()


def _blocks(parts: Sequence[Part], losses: Losses) -> _Blocks:
    blocks: _Blocks = []
    for part in parts:
        if isinstance(part, Opaque) and part.family == "anthropic" and part.kind == CITATION:
            _cite(blocks, part)
        elif (block := _block(part, losses)) is not None:
            blocks.append(block)
    return blocks


def _cite(blocks: _Blocks, part: Opaque) -> None:
    if blocks and isinstance(last := blocks[-1], TextBlock):
        cited = [] if isinstance(last.citations, UnsetType) or last.citations is None else last.citations
        blocks[-1] = TextBlock(last.text, last.cache_control, [*cited, Raw(part.json.encode())])


def _block(part: Part, losses: Losses) -> Block | Raw | None:
    match part:
        case Text():
            return _text(part) if part.text.strip() else None
        case Image():
            return _image(part, losses)
        case Document():
            return _document(part, losses)
        case Reasoning():
            return _reasoning(part, losses)
        case ToolCall():
            return ToolUseBlock(_tool_id(part.id), part.name, _input(part.arguments, losses))
        case ToolResult():
            return _result(part, losses)
        case Opaque():
            if part.family == "anthropic":
                return Raw(part.json.encode())
            losses.drop(f"messages.{part.kind}", f"only {part.family} understands it")
            return None
        case _:
            assert_never(part)


def _reasoning(part: Reasoning, losses: Losses) -> Block | None:
    if part.family == "anthropic":
        if part.redacted is not None:
            return RedactedThinkingBlock(part.redacted)
        if part.signature:
            return ThinkingBlock(part.text, part.signature)
    losses.note("messages.reasoning", "thinking without Anthropic's signature is not sent")
    return None


def _result(part: ToolResult, losses: Losses) -> ToolResultBlock:
    content: list[TextBlock | ImageBlock | DocumentBlock | Raw] = []
    cache: CacheControl | UnsetType = UNSET
    for piece in part.content:
        match piece:
            case Text():
                if piece.cache is not None:
                    cache = _cache(piece)
                if piece.text.strip():
                    content.append(TextBlock(piece.text))
            case Image():
                content.append(_image(piece, losses))
            case Document():
                content.append(_document(piece, losses))
            case Opaque(family="anthropic"):
                content.append(Raw(piece.json.encode()))
            case Opaque():
                losses.change(f"messages.tool_result.{piece.kind}", "a block of another format is sent as its JSON")
                content.append(TextBlock(piece.json))
            case _:
                assert_never(piece)
    return ToolResultBlock(
        _tool_id(part.tool_call_id),
        content=content or UNSET,
        is_error=True if part.is_error else UNSET,
        cache_control=cache,
    )


def _image(part: Image, losses: Losses) -> ImageBlock:
    if part.detail not in (None, "auto"):
        losses.drop("image.detail", "the API has no such choice")
    data, media_type = part.data, part.media_type
    if part.url is not None:
        if not part.url.startswith("data:"):
            return ImageBlock(Source("url", url=part.url))
        media_type, data = _data_url(part.url)
    if data is None:
        raise losses.refuse("an image", "it has neither a URL nor data")
    if not media_type:
        media_type = next((kind for magic, kind in _MAGIC if data.startswith(magic)), "image/png")
    if media_type not in _IMAGES:
        raise losses.refuse(f"an image of type {media_type}", "send JPEG, PNG, GIF or WebP")
    return ImageBlock(Source("base64", media_type=media_type, data=data))


def _document(part: Document, losses: Losses) -> DocumentBlock:
    title = part.name if part.name else UNSET
    data, media_type = part.data, part.media_type
    if part.url is not None:
        if not part.url.startswith("data:"):
            return DocumentBlock(Source("url", url=part.url), title)
        media_type, data = _data_url(part.url)
    if data is None:
        raise losses.refuse("a document", "it has neither a URL nor data")
    media_type = media_type or "application/pdf"
    if media_type == "application/pdf":
        return DocumentBlock(Source("base64", media_type=media_type, data=data), title)
    if media_type.startswith("text/") or media_type in ("application/json", "application/xml"):
        return DocumentBlock(Source("text", media_type="text/plain", data=_plain(data, losses)), title)
    raise losses.refuse(f"a document of type {media_type}", "send PDF or text")


def _plain(data: str, losses: Losses) -> str:
    try:
        return a2b_base64(data).decode()
    except (BinasciiError, UnicodeDecodeError):
        raise losses.refuse("a text document", "its data is not UTF-8 in base64") from None


def _data_url(url: str) -> tuple[str, str]:
    """Media type and base64 text of `data:image/png;base64,...`."""
    head, _, data = url[5:].partition(",")
    return head.partition(";")[0], data


def _input(arguments: str, losses: Losses) -> Raw:
    """The arguments' own bytes when they are an object, which is all that the API takes."""
    if not arguments.strip():
        return _EMPTY_INPUT
    data = arguments.encode()
    try:
        _OBJECT.decode(data)
    except DecodeError:
        losses.note("messages.tool_call", "arguments that are no JSON object are sent as text under `invalid_json`")
        return Raw(encode({"invalid_json": arguments}))
    return Raw(data)


def _tool_id(given: str) -> str:
    """The API takes letters, digits, `_` and `-` only. Another family's id is rewritten, the same way each time."""
    if _TOOL_ID.fullmatch(given):
        return given
    return f"{re.sub(r'[^a-zA-Z0-9_-]', '_', given)[:40]}_{sha256(given.encode()).hexdigest()[:12]}"
