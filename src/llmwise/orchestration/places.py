"""Which parts of an answer the caller's dialect has a place for; of any other the caller is told.

Only what one family alone understands is in question (`domain.events.OpaquePart`): text, thinking and calls have a
place everywhere. Bytes that are passed on as they came hold everything anyway.
"""

from llmwise.domain.events import OpaquePart, Warned
from llmwise.domain.requests import Dialect

_BESIDE = frozenset({"item"})
"""Kinds that say more of the part before them, and nothing of the answer (`providers.responses.stream`)."""


def left_out(dialect: Dialect, part: OpaquePart) -> Warned | None:
    """What to tell of `part`, if `dialect` can't show it."""
    if _has_place(dialect, part):
        return None
    return Warned("dropped", part.kind, f"a part of the answer that only {part.family}'s own format has a place for")


def _has_place(dialect: Dialect, part: OpaquePart) -> bool:
    match dialect:
        case "anthropic":
            return part.family == "anthropic"
        case "openai":
            own = part.family == "openai" and part.kind == "annotations"
            return own or part.kind == "logprobs" or part.kind in _BESIDE
        case "responses":
            return True  # its renderer tells of them
        case _:
            return part.kind in _BESIDE
