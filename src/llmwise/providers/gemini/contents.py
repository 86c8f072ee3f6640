"""Messages to contents: the conversation in Gemini's grammar.

What the API wants: system text apart, turns of `user` and `model`, and after a turn with function calls one user turn
with as many function responses, in the order of the calls. Decisions where it leaves a choice:

- A system message in the middle keeps its place, inside a user turn and marked as an instruction.
- Consecutive messages of one role become one turn.
- Thought signatures go back on the part that they came with. One that came with text comes back on an empty text part,
  as the API itself sends it in streams. A call from another family's history gets the signature that Google is cited
  to document for calls that Gemini did not make (https://ai.google.dev/gemini-api/docs/thought-signatures, by way of
  https://github.com/vercel/ai/pull/15560, 2026-11-22); only the first call of a turn needs one.
"""

from collections.abc import Iterable, Sequence
from mimetypes import guess_type
from typing import Literal, TypeAlias, assert_never

from msgspec import UNSET, DecodeError, Raw, UnsetType
from msgspec.json import Decoder, encode

from llmwise.domain.messages import Document, Image, Message, Opaque, Part, Reasoning, Text, ToolCall, ToolResult
from llmwise.providers.gemini.generations import Generation
from llmwise.providers.losses import Losses
from llmwise.wire import gemini as wire

ANY_SIGNATURE = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""`skip_thought_signature_validator` in base64: recorded requests with it got 200 (2026-08)."""

_Role: TypeAlias = Literal["user", "model"]
_Parts: TypeAlias = "list[wire.Part | Raw]"

_OBJECT = Decoder(dict[str, Raw])
_ANY = Decoder()
# What Gemini 3 takes inside a function response (docs/function-calling#multimodal, 2026-11-22).
_IN_RESULTS = frozenset(("image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"))
_EMPTY = Raw(b"{}")


def contents(
    messages: Sequence[Message], rules: Generation, losses: Losses
) -> tuple[wire.Content | UnsetType, list[wire.Content]]:
    """The system instruction and the turns. Raises `UnsupportedInput` for a part that can be neither sent nor left
    out."""
    body = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    system = _texts(part for message in messages[:body] for part in message.parts)
    names = {part.id: part.name for message in messages for part in message.parts if isinstance(part, ToolCall)}
    turns: list[tuple[_Role, _Parts]] = []
    for message in messages[body:]:
        if message.name is not None:
            losses.note("messages.name", "the API has no names of participants")
        role, parts = _turn(message, names, rules, losses)
        if not parts:
            continue
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(parts)
        else:
            turns.append((role, parts))
    if not turns and system:
        losses.change("messages", "there were only system messages: they are sent as the user's")
        turns, system = [("user", system)], []
    if turns and turns[-1][0] == "model" and not rules.prefill:
        losses.change("messages", "the model doesn't continue a turn of its own: it is asked to, in a user turn")
        turns.append(("user", [wire.Part(text="Continue exactly where your last message ended.")]))
    for i, (role, parts) in enumerate(turns):
        if role == "user":
            turns[i] = (role, _answers_first(parts, turns[i - 1][1] if i else []))
        elif rules.signatures:
            _sign(parts, losses)
    return wire.Content(system) if system else UNSET, [wire.Content(parts, role) for role, parts in turns]


def _turn(message: Message, names: dict[str, str], rules: Generation, losses: Losses) -> tuple[_Role, _Parts]:
    if message.role == "system":
        texts = [part for part in message.parts if isinstance(part, Text) and part.text]
        if texts:
            losses.note("messages.system", "a system message in the middle is sent inside a user turn")
        _drop_opaque(message.parts, losses)
        return "user", [wire.Part(text=f"<system>\n{part.text}\n</system>") for part in texts]
    parts: _Parts = []
    for part in message.parts:
        parts.extend(_parts(part, names, rules, losses))
    return ("model" if message.role == "assistant" else "user"), parts


def _answers_first(parts: _Parts, before: _Parts) -> _Parts:
    """Function responses lead the turn, in the order of the calls that they answer."""
    order = {call.id: i for i, part in enumerate(before) if (call := _call(part)) is not None}
    last = len(before)

    def rank(part: wire.Part | Raw) -> int:
        if isinstance(part, wire.Part) and isinstance(part.function_response, wire.FunctionResponse):
            answered = part.function_response.id
            return order.get(answered, last) if isinstance(answered, str) else last
        return last + 1

    return sorted(parts, key=rank)


def _sign(parts: _Parts, losses: Losses) -> None:
    """Only the first call of a turn carries a signature; where none came, the documented stand-in."""
    for i, part in enumerate(parts):
        if (call := _call(part)) is not None:
            if isinstance(part, wire.Part) and isinstance(part.thought_signature, UnsetType):
                losses.note("messages.tool_call", "a call that this model did not make is marked as such")
                parts[i] = wire.Part(function_call=call, thought_signature=ANY_SIGNATURE)
            return


def _call(part: wire.Part | Raw) -> wire.FunctionCall | None:
    if isinstance(part, wire.Part) and isinstance(part.function_call, wire.FunctionCall):
        return part.function_call
    return None


def _drop_opaque(parts: Iterable[Part], losses: Losses) -> None:
    for part in parts:
        if isinstance(part, Opaque):
            losses.drop(f"messages.{part.kind}", f"only {part.family} understands it")


def _texts(parts: Iterable[Part]) -> _Parts:
    return [wire.Part(text=part.text) for part in parts if isinstance(part, Text) and part.text]


def _parts(part: Part, names: dict[str, str], rules: Generation, losses: Losses) -> _Parts:
    match part:
        case Text():
            return [wire.Part(text=part.text)] if part.text else []
        case Image() | Document():
            return [_media(part, losses)]
        case Reasoning():
            return _reasoning(part, losses)
        case ToolCall():
            call = wire.FunctionCall(part.name, _args(part.arguments, losses), part.id or UNSET)
            return [wire.Part(function_call=call, thought_signature=part.signature or UNSET)]
        case ToolResult():
            return _result(part, names, rules, losses)
        case Opaque():
            if part.family == "gemini":
                return [Raw(part.json.encode())]
            losses.drop(f"messages.{part.kind}", f"only {part.family} understands it")
            return []
        case _:
            assert_never(part)


def _reasoning(part: Reasoning, losses: Losses) -> _Parts:
    """A signature without a thought belonged to the text before it."""
    if part.family == "gemini" and part.redacted is None:
        if part.text:
            return [wire.Part(text=part.text, thought=True, thought_signature=part.signature or UNSET)]
        if part.signature:
            return [wire.Part(text="", thought_signature=part.signature)]
        return []
    losses.note("messages.reasoning", "another family's thinking is not sent")
    return []


def _result(part: ToolResult, names: dict[str, str], rules: Generation, losses: Losses) -> _Parts:
    """The answer to a call: its text under `output` or `error`, as JSON where it is JSON. Media go into the response
    where the model takes them there, else behind it."""
    text = "\n".join(spoken for piece in part.content if (spoken := _spoken(piece, losses)) is not None)
    inside: list[wire.FunctionResponsePart] = []
    behind: _Parts = []
    for piece in part.content:
        if not isinstance(piece, Image | Document):
            continue
        media = _media(piece, losses)
        if rules.media_results and _mime_type(media) in _IN_RESULTS:
            inside.append(wire.FunctionResponsePart(media.inline_data, media.file_data))
        else:
            behind.append(media)
    response = wire.FunctionResponse(
        name=part.name or names.get(part.tool_call_id) or part.tool_call_id,
        response={"error" if part.is_error else "output": _output(text)},
        id=part.tool_call_id or UNSET,
        parts=inside or UNSET,
    )
    return [wire.Part(function_response=response), *behind]


def _spoken(piece: Text | Image | Document | Opaque, losses: Losses) -> str | None:
    """What a tool answered in words. A block that only another family knows is sent as its JSON."""
    if isinstance(piece, Opaque):
        losses.change(f"messages.tool_result.{piece.kind}", "a block that the API doesn't know is sent as its JSON")
        return piece.json
    return piece.text if isinstance(piece, Text) else None


def _output(text: str) -> Raw | str:
    if text[:1] in ("{", "["):
        data = text.encode()
        try:
            _ANY.decode(data)
        except DecodeError:
            return text
        return Raw(data)
    return text


def _args(arguments: str, losses: Losses) -> Raw:
    """The arguments' own bytes when they are an object, which is all that the API takes."""
    if not arguments.strip():
        return _EMPTY
    data = arguments.encode()
    try:
        _OBJECT.decode(data)
    except DecodeError:
        losses.note("messages.tool_call", "arguments that are no JSON object are sent as text under `invalid_json`")
        return Raw(encode({"invalid_json": arguments}))
    return Raw(data)


def _media(part: Image | Document, losses: Losses) -> wire.Part:
    """An image or document: bytes inline, an address as file data (the API fetches it, and wants to know the type)."""
    fallback = "image/jpeg" if isinstance(part, Image) else "application/pdf"
    if isinstance(part, Image) and part.detail not in (None, "auto"):
        losses.drop("image.detail", "the API has another scale, for the whole request")
    data, media_type = part.data, part.media_type
    if part.url is not None:
        if not part.url.startswith("data:"):
            known = media_type or guess_type(part.url.partition("?")[0])[0] or fallback
            return wire.Part(file_data=wire.FileData(part.url, known))
        head, _, data = part.url[5:].partition(",")
        media_type = head.partition(";")[0]
    if data is None:
        raise losses.refuse("an image or document", "it has neither a URL nor data")
    return wire.Part(inline_data=wire.Blob(media_type or fallback, data))


def _mime_type(media: wire.Part) -> str | UnsetType:
    if isinstance(media.inline_data, wire.Blob):
        return media.inline_data.mime_type
    return media.file_data.mime_type if isinstance(media.file_data, wire.FileData) else UNSET
