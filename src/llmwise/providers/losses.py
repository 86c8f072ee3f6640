"""What a request loses on its way to a target, said aloud.

A codec reports here whatever it can't send as asked. The caller finds it in the answer's warnings; a strict request is
refused instead, and the next target of the plan may take it. `foreign` does the same for what a caller says in its own
dialect and the gateway has no notion of.
"""

from collections.abc import Collection, Mapping

from llmwise.domain.errors import UnsupportedInput
from llmwise.domain.events import Warned
from llmwise.domain.messages import Family
from llmwise.domain.requests import ChatRequest, Dialect

UNDERSTOOD: Mapping[Dialect, frozenset[str]] = {
    "openai": frozenset(
        (
            "model",
            "messages",
            "stream",
            "stream_options",
            "n",
            "temperature",
            "top_p",
            "top_k",
            "max_tokens",
            "max_completion_tokens",
            "stop",
            "seed",
            "presence_penalty",
            "frequency_penalty",
            "logprobs",
            "top_logprobs",
            "tools",
            "tool_choice",
            "parallel_tool_calls",
            "response_format",
            "reasoning_effort",
            "user",
            "metadata",
        )
    ),
    "responses": frozenset(
        (
            "model",
            "input",
            "instructions",
            "stream",
            "stream_options",
            "max_output_tokens",
            "temperature",
            "top_p",
            "top_logprobs",
            "tools",
            "tool_choice",
            "parallel_tool_calls",
            "text",
            "reasoning",
            "metadata",
            "include",
            "background",
            "previous_response_id",
            "conversation",
            "prompt",
            "user",
            "safety_identifier",
        )
    ),
    "anthropic": frozenset(
        (
            "model",
            "messages",
            "system",
            "stream",
            "max_tokens",
            "temperature",
            "top_p",
            "top_k",
            "stop_sequences",
            "tools",
            "tool_choice",
            "thinking",
            "output_config",
            "metadata",
        )
    ),
}
"""The fields of a body that become a `ChatRequest`, each of which a codec sends or reports. The others are known to
their dialect's own providers only. A dialect that isn't here is translated whole at the door."""

DEFAULTS: Mapping[str, frozenset[bytes]] = {
    "service_tier": frozenset((b'"auto"', b'"default"', b'"standard_only"')),
    "store": frozenset((b"false",)),
    "truncation": frozenset((b'"disabled"',)),
    "logit_bias": frozenset((b"{}",)),
    "modalities": frozenset((b'["text"]',)),
    "speed": frozenset((b'"standard"',)),
    "verbosity": frozenset((b'"medium"',)),
}
"""Values that ask for what happens anyway: nothing is lost with them."""

HINTS = frozenset(
    (
        "cache_control",
        "diagnostics",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "user_profile_id",
        "workspace_id",
    )
)
"""What makes an answer cheaper or easier to attribute, and never another one: told, but no reason to refuse."""


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


def foreign(request: ChatRequest, family: Family, losses: Losses, taken: Collection[str] = ()) -> None:
    """Report what the caller's body says that a target of `family` can't be told, `taken` excepted. Nothing is reported
    where the target speaks the caller's dialect: there the body goes along as it came."""
    own = request.passthrough
    if own is None or own.dialect == family or own.dialect not in UNDERSTOOD:
        return
    known = UNDERSTOOD[own.dialect]
    why = f"only models behind {own.dialect}'s own API take it"
    for name, value in own.fields.items():
        if name not in known and value != b"null" and value not in DEFAULTS.get(name, ()):
            _report(name, why, losses, taken)
    for field, reason in own.details:
        _report(field, reason, losses, taken)
    for header, _ in own.headers:
        if header == "anthropic-beta":  # a version says how to speak, not what
            losses.note(header, why)


def _report(field: str, why: str, losses: Losses, taken: Collection[str]) -> None:
    if field in taken:
        return
    report = losses.note if field in HINTS else losses.drop
    report(field, why)
