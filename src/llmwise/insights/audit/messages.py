"""The question in a logged request: its last user message, and what the request needs of a model."""

from typing import Any

import msgspec

HEAD_CHARS, TAIL_CHARS = 3072, 1024
"""As much of a text as is kept until it is classified: the classifier reads less of either end."""


def clipped(text: str) -> str:
    """The head and the tail of a long text."""
    return text if len(text) <= HEAD_CHARS + TAIL_CHARS else text[:HEAD_CHARS] + text[-TAIL_CHARS:]


def prompt_of(asked: Any) -> str | None:
    """The text of the last user message in `asked`: messages, a body with `messages` or `input`, either also as JSON
    text; `None` where there is none."""
    asked = _opened(asked)
    if isinstance(asked, dict):
        asked = _opened(asked.get("messages") or asked.get("input"))
    if isinstance(asked, str):
        return clipped(asked) or None
    if not isinstance(asked, list):
        return None
    for message in reversed(asked):
        if isinstance(message, dict) and message.get("role", "user") == "user":
            text = _text(message.get("content"))
            if text:
                return clipped(text)
    return None


def needs_in(asked: Any) -> str | None:
    """Words for `Needs`: tools, vision, json_schema, json_object, as far as a body says; `None` for none."""
    asked = _opened(asked)
    if not isinstance(asked, dict):
        messages, body = asked, {}
    else:
        messages, body = asked.get("messages") or asked.get("input"), asked
    found = ["tools"] if body.get("tools") else []
    if isinstance(messages, list) and any(map(_has_image, messages)):
        found.append("vision")
    wanted = body.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind in ("json_schema", "json_object"):
        found.append(kind)
    return " ".join(found) or None


def _opened(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError:
            return value
    return value or None


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [one.get("text") for one in content if isinstance(one, dict)]
    return "\n".join(part for part in parts if isinstance(part, str))


def _has_image(message: Any) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    return isinstance(content, list) and any(
        isinstance(one, dict) and "image" in str(one.get("type", "")) for one in content
    )
