"""What a request loses on its way to a target, said aloud.

A codec reports here whatever it can't send as asked. The caller finds it in the answer's warnings; a strict request is
refused instead, and the next target of the plan may take it.
"""

from llmwise.domain.errors import UnsupportedInput
from llmwise.domain.events import Warned


class Losses:
    """Collects the losses of one request. `target` names the model in the messages, `strict` turns a loss into
    `UnsupportedInput`. Each field is reported once."""

    def __init__(self, target: str, strict: bool) -> None:
        self._target = target
        self._strict = strict
        self._warnings: dict[tuple[str, str], Warned] = {}

    def drop(self, field: str, why: str) -> None:
        """`field` was asked for and is not sent. Raises `UnsupportedInput` for a strict request."""
        self._lose("dropped", field, why)

    def change(self, field: str, why: str) -> None:
        """`field` is sent with another value or by other means. Raises `UnsupportedInput` for a strict request."""
        self._lose("changed", field, why)

    def note(self, field: str, why: str) -> None:
        """Worth knowing, but nothing that the caller asked of the target: never refused."""
        self._warnings.setdefault(("noted", field), Warned("noted", field, why))

    def refuse(self, field: str, why: str) -> UnsupportedInput:
        """The error for a part of the question itself, which can't be left out without answering another one."""
        return UnsupportedInput(f"{self._target} can't take {field}: {why}", field=field)

    @property
    def warnings(self) -> tuple[Warned, ...]:
        return tuple(self._warnings.values())

    def _lose(self, code: str, field: str, why: str) -> None:
        if self._strict:
            raise self.refuse(field, why)
        self._warnings.setdefault((code, field), Warned(code, field, why))
