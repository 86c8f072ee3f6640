"""What a scripted provider does, as data: settings for its answers, and rules that make chosen requests go wrong.

    [defaults]                      # settings for every model
    tokens_per_second = 200

    [models."gpt-*"]                # settings for the models that the name or pattern fits
    latency_ms = 80

    [[rule]]                        # the first rule that fits a request is the one that counts
    model = "gpt-5.2"               # a name or pattern; without it any model
    nth = "1-3"                     # which of the model's requests: 1, "1-3", "4-", "every 2"; without it all
    fault = "rate_limit"            # one of `FAULTS`, with its own parameters; without it a normal answer
    retry_after = 2

Settings are layered: a rule's own over its model's (the first pattern that fits) over the defaults. What no rule
fits is answered normally. Requests are counted per model from 1, anew with each script.
"""

from fnmatch import fnmatchcase
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from llmwise.domain.events import FinishReason
from llmwise.domain.usage import TokenUsage

Count = Annotated[int, Meta(ge=0)]
Milliseconds = Annotated[float, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
ErrorStatus = Annotated[int, Meta(ge=400, le=599)]

DEFAULT_AFTER = 2


class Usage(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Token counts to report in place of the counted ones, in buckets that do not overlap (see `TokenUsage`)."""

    input: Count | None = None
    cache_read: Count | None = None
    cache_write_5m: Count | None = None
    cache_write_1h: Count | None = None
    output: Count | None = None
    reasoning: Count | None = None

    def over(self, counted: TokenUsage) -> TokenUsage:
        return TokenUsage(
            counted.input if self.input is None else self.input,
            counted.cache_read if self.cache_read is None else self.cache_read,
            counted.cache_write_5m if self.cache_write_5m is None else self.cache_write_5m,
            counted.cache_write_1h if self.cache_write_1h is None else self.cache_write_1h,
            counted.output if self.output is None else self.output,
            counted.reasoning if self.reasoning is None else self.reasoning,
        )


class Settings(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How an answer is made. `None` leaves it to the next layer, and at last to what each line says.

    latency_ms          before the answer's headers: 0
    first_event_ms      between the headers and the first event, in a stream; before the headers otherwise: 0
    tokens_per_second   pace of the content: as fast as it goes
    text                the answer: a sentence that says it is scripted and quotes the question
    tokens              its length; the text is cut or repeated to fit: the text's own
    reasoning           thinking before the answer: none
    tool_calls          calls made of the tools offered: 1 when the request demands one, else 0
    finish              reason for the end: what the answer's content implies
    usage               counts to report: counted, roughly
    """

    latency_ms: Milliseconds | None = None
    first_event_ms: Milliseconds | None = None
    tokens_per_second: Annotated[float, Meta(gt=0)] | None = None
    text: str | None = None
    tokens: Annotated[int, Meta(ge=1)] | None = None
    reasoning: str | None = None
    tool_calls: Annotated[int, Meta(ge=0, le=64)] | None = None
    finish: FinishReason | None = None
    usage: Usage | None = None


_SETTINGS = Settings.__struct_fields__


class Rule(Settings, frozen=True, tag_field="fault", tag="-"):
    """Which requests, and settings of their own. The subclasses are the faults; this class is never used itself."""

    model: str = "*"
    nth: int | str | None = None

    def __post_init__(self) -> None:
        if self.nth is not None:
            _span(self.nth)

    def fits(self, model: str, nth: int) -> bool:
        """`nth` counts the requests for `model` from 1."""
        if self.model != "*" and self.model != model and not fnmatchcase(model, self.model):
            return False
        if self.nth is None:
            return True
        first, last, step = _span(self.nth)
        return nth >= first and (last is None or nth <= last) and nth % step == 0

    @property
    def fault(self) -> str:
        return str(self.__struct_config__.tag)


def _span(nth: int | str) -> tuple[int, int | None, int]:
    """First, last (`None`: no end) and step. Raises `ValueError`."""
    try:
        if isinstance(nth, int):
            span: tuple[int, int | None, int] = (nth, nth, 1)
        elif nth.startswith("every "):
            span = (1, None, int(nth[6:]))
        else:
            first, dash, last = nth.partition("-")
            span = (int(first), int(last) if last.strip() else None if dash else int(first), 1)
    except ValueError:
        span = (0, 0, 0)
    first_, last_, step = span
    if first_ < 1 or step < 1 or (last_ is not None and last_ < first_):
        raise ValueError(f'nth = {nth!r}: expected a count from 1 such as 2, "1-3", "4-" or "every 2"')
    return span


# Faults. "After n events" counts events with content, not openings such as Anthropic's `message_start`; an answer with
# fewer of them meets its fault before its closing frames. Not streamed, the same fault befalls the body.


class Normal(Rule, frozen=True, tag="none"):
    """No fault: a rule that only brings settings, or exempts a request from a later rule."""


class RateLimit(Rule, frozen=True, tag="rate_limit"):
    """429. `retry_after` in seconds, said in the header as seconds, as an HTTP date or in `retry-after-ms`."""

    retry_after: Seconds | None = None
    retry_after_form: Literal["seconds", "date", "ms"] = "seconds"


class Status(Rule, frozen=True, tag="status"):
    """An error status with the dialect's envelope. `code` and `message` replace the ones that belong to `status`."""

    status: ErrorStatus = 500
    code: str | None = None
    message: str | None = None
    retry_after: Seconds | None = None


class Overloaded(Rule, frozen=True, tag="overloaded"):
    """529, Anthropic's own status for it."""

    retry_after: Seconds | None = None


class ContextTooLong(Rule, frozen=True, tag="context_too_long"):
    """400 in the words that the dialect's provider uses for a prompt over its window."""


class Refuse(Rule, frozen=True, tag="refuse"):
    """The connection ends without an answer: reset, or closed when `reset` is false."""

    reset: bool = True


class Hang(Rule, frozen=True, tag="hang"):
    """No headers, ever."""


class HangFirstEvent(Rule, frozen=True, tag="hang_first_event"):
    """Headers, then nothing."""


class Cut(Rule, frozen=True, tag="cut"):
    """The connection closes (or is reset) amid the answer."""

    after: Count = DEFAULT_AFTER
    reset: bool = False


class Stall(Rule, frozen=True, tag="stall"):
    """Nothing more amid the answer; the connection stays."""

    after: Count = DEFAULT_AFTER


class Malformed(Rule, frozen=True, tag="malformed"):
    """One frame, or the body, is broken JSON. What follows the frame is as it should be."""

    after: Count = DEFAULT_AFTER


class ErrorIn200(Rule, frozen=True, tag="error_in_200"):
    """A 200 whose stream then holds an error, or whose body is one. `status` chooses which error."""

    after: Count = DEFAULT_AFTER
    status: ErrorStatus = 500
    message: str | None = None


class WrongContentType(Rule, frozen=True, tag="wrong_content_type"):
    """200 and a web page, as a captive portal or a misconfigured proxy answers."""


class Trickle(Rule, frozen=True, tag="trickle"):
    """A right answer in pieces of `piece_bytes`, `gap_ms` apart, with no respect for frames or characters."""

    gap_ms: Milliseconds = 1.0
    piece_bytes: Annotated[int, Meta(ge=1)] = 1


class Oversized(Rule, frozen=True, tag="oversized"):
    """A frame, or a body, whose text is `bytes` long. By default more than any reader should take of a frame."""

    bytes: Annotated[int, Meta(ge=1, le=1 << 30)] = 16 << 20
    after: Count = DEFAULT_AFTER


class NoTerminal(Rule, frozen=True, tag="no_terminal"):
    """The body ends cleanly before the frames that close an answer; not streamed, in the middle of its JSON."""


class NoUsage(Rule, frozen=True, tag="no_usage"):
    """A right answer that reports no tokens."""


class Keepalive(Rule, frozen=True, tag="keepalive"):
    """`count` comments, `gap_ms` apart, before the first event, and one before each further event. Not streamed, empty
    lines before the body, as DeepSeek sends them (https://api-docs.deepseek.com/quick_start/rate_limit, 2026-11-22)."""

    count: Count = 3
    gap_ms: Milliseconds = 10.0


class Crlf(Rule, frozen=True, tag="crlf"):
    """A right answer with CRLF line ends."""


AnyRule: TypeAlias = (
    Normal
    | RateLimit
    | Status
    | Overloaded
    | ContextTooLong
    | Refuse
    | Hang
    | HangFirstEvent
    | Cut
    | Stall
    | Malformed
    | ErrorIn200
    | WrongContentType
    | Trickle
    | Oversized
    | NoTerminal
    | NoUsage
    | Keepalive
    | Crlf
)

NORMAL = Normal()


class Cue(Struct, frozen=True):
    """What is due for one request: its number among the model's, its rule, and its settings with all layers laid."""

    nth: int
    rule: AnyRule
    settings: Settings


class Script(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """See the module. An empty script answers everything normally."""

    defaults: Settings = Settings()
    models: dict[str, Settings] = {}
    rules: tuple[AnyRule, ...] = field(default=(), name="rule")

    def cue(self, model: str, nth: int) -> Cue:
        """What the `nth` request (from 1) for `model` gets. Pure."""
        rule = next((rule for rule in self.rules if rule.fits(model, nth)), NORMAL)
        own = self.models.get(model)
        if own is None:
            own = next((s for pattern, s in self.models.items() if fnmatchcase(model, pattern)), None)
        return Cue(nth, rule, _layered(rule, own, self.defaults))

    @property
    def model_names(self) -> list[str]:
        """The models that the script names without a pattern, in order."""
        names = dict.fromkeys([*self.models, *(rule.model for rule in self.rules)])
        return [name for name in names if not any(sign in name for sign in "*?[")]


def _layered(rule: Settings, own: Settings | None, defaults: Settings) -> Settings:
    layers = (rule, defaults) if own is None else (rule, own, defaults)
    if rule is NORMAL and len(layers) == 2:
        return defaults
    values = (next((v for layer in layers if (v := getattr(layer, name)) is not None), None) for name in _SETTINGS)
    return Settings(*values)


class Playback:
    """A script being played: it counts the requests of each model."""

    def __init__(self, script: Script | None = None) -> None:
        self._script = Script() if script is None else script
        self._counts: dict[str, int] = {}

    @property
    def script(self) -> Script:
        return self._script

    def start(self, script: Script | None = None) -> None:
        """Play `script`, or the same one again, from the first request on."""
        self._script = self._script if script is None else script
        self._counts.clear()

    def next(self, model: str) -> Cue:
        nth = self._counts[model] = self._counts.get(model, 0) + 1
        return self._script.cue(model, nth)
