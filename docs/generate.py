"""Write docs/reference from the code: `python -m docs.generate`, or `make docs`. With `--check` nothing is written: the
names of the pages that are out of date go to stdout, and the exit code is 1 if there are any.

What a page says is in the code it is made of: a key's meaning in its settings' docstring, a command's in its own, a
model's facts in `models.toml`. So a page is mended there, and made anew here. The same tree gives the same bytes.
"""

import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec
import typer
from msgspec import Meta, Struct

from llmwise.api.errors import ANTHROPIC_TYPES, OPENAI_TYPES
from llmwise.api.frame import Route
from llmwise.api.native import events
from llmwise.api.routes import ROUTES
from llmwise.catalog import prices
from llmwise.catalog.rows import BuiltinModel, ModelSettings, read_models
from llmwise.cli.main import app
from llmwise.config import SERVER_URLS, Config
from llmwise.domain import errors
from llmwise.domain.errors import GatewayError
from llmwise.domain.money import NANO_PER_USD
from llmwise.providers.registry import VENDORS
from llmwise.providers.scripted.script import AnyRule, Rule, Settings
from llmwise.routing.auto import GUIDE_MAP, HARD, QUALITY_BAR, UNSURE_BAR, AutoSettings
from llmwise.routing.classifier import classify
from llmwise.telemetry.metrics import Metrics
from llmwise.wire import native

REFERENCE = Path(__file__).parent / "reference"
HEADER = "<!-- Made by `make docs` from the code named below. Don't edit: the next run would undo it. -->\n\n"

Page: TypeAlias = Callable[[], str]


def main(arguments: Sequence[str]) -> int:
    stale = [name for name, text in pages().items() if _read(REFERENCE / name) != text]
    if "--check" in arguments:
        print("\n".join(stale), end="\n" if stale else "")
        return 1 if stale else 0
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, "utf-8")
    print(f"{len(PAGES)} pages in docs/reference, {len(stale)} of them changed")
    return 0


def pages() -> Mapping[str, str]:
    """The text of every page by its file's name."""
    return {name: HEADER + page().rstrip() + "\n" for name, page in PAGES.items()}


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.exists() else None


# The pages


def configuration() -> str:
    parts = [
        "# Configuration\n\nFrom `llmwise/config.py` and the settings that it is composed of.\n",
        "One TOML file, named by `--config` or `LLMWISE_CONFIG`. Every section and key may be left out. An unknown "
        "key, a value of the wrong type or out of its range is refused with its path, the value and the nearest "
        "right name; `llmwise doctor --config FILE` checks a file without starting anything.\n",
        f"Without a file the gateway offers the vendors whose keys the environment holds ({_codes(_key_variables())}), "
        f"the model servers that it names ({_codes(v for names in SERVER_URLS.values() for v in names)}), and the "
        "local model.\n",
        "A secret is named, never written: `env:NAME` or `file:PATH`. Relative paths are relative to the file's "
        "folder. `kill -HUP` reads the file again; a file that is not valid is refused whole and the old one stays.\n",
    ]
    for section in msgspec.structs.fields(Config):
        if section.name == "source":
            continue
        struct, title = section.type, f"[{section.name}]"
        if get_origin(struct) is dict:  # tables by names of the reader's choice
            struct, title = get_args(struct)[1], f"[{section.name}.NAME]"
        elif section.name == "models":
            struct, title = ModelSettings, "[[models]]"
        if struct is str:
            parts.append(f"## `[{section.name}]`\n\nTexts by name, in place of the built-in ones.\n")
            continue
        about, meanings = split_docstring(struct)
        about = re.sub(r"^`\[.*?\]`[:.]?\s*", "", about)
        parts.append(f"## `{title}`\n\n{_sentence(about)}\n")
        rows = [(f"`{f.name}`", _type(f.type), _default(f), _cell(meanings.get(f.name, ""))) for f in _fields(struct)]
        parts.append(_table(("key", "type", "default", "meaning"), rows))
    parts.append(f"`capabilities` is a table of booleans: {_codes(_ability_names())}.\n")
    return "\n".join(parts)


def http_api() -> str:
    book = TypeBook()
    seen: dict[type[Struct], Route] = {}
    parts = [
        "# HTTP API\n\nFrom the route table (`llmwise/api/routes.py`) and its structs. A running gateway serves the "
        "same as OpenAPI 3.1 at `/openapi.json` and as a page at `/docs`.\n",
        "Send the key as `Authorization: Bearer mm_sk_...` and a body as `application/json`. Every answer carries "
        "`X-Request-Id`; every answer to a known key carries `X-RateLimit-Limit`, `X-RateLimit-Remaining` and "
        "`X-RateLimit-Reset` (seconds). Any prefix before `/api/v1/` and `/v1/` is taken off; a prefix with `/compat` "
        "in it also asks for the [compat framing](stream-events.md#compat-framing) of streams. "
        "Errors: [errors](errors.md).\n",
        _table(
            ("method, path", "who", "limit", ""),
            [(_route_link(r), _who(r), "" if r.access == "open" else r.work, r.summary) for r in ROUTES],
        ),
        "Every other path is 404.\n",
    ]
    for route in ROUTES:
        parts.append(f"## {route.method} {route.path}\n\n{route.summary}\n")
        if route.stream:
            parts.append(
                "Streamed as [events](stream-events.md).\n"
                if route.dialect == "native"
                else "Streamed as OpenAI's chunks when `stream` is true.\n"
            )
        if route.query is not None:
            parts += ["Query parameters:\n", book.fields(route.query)]
        if route.body is not None:
            optional = " (may be left out)" if route.body_optional else ""
            first = seen.setdefault(route.body, route)
            if first is route:
                parts += [f"Body{optional}:\n", book.fields(route.body)]
            else:
                parts.append(f"Body: as of {_route_link(first)}.\n")
        if route.upload is not None:
            parts.append(f"Body: {route.upload}\n")
        parts.append(f"Answer: {' or '.join(map(book.show_answer, route.answers))}\n")
    parts.append("## Types\n")
    parts += book.entries()
    return "\n".join(parts)


def cli() -> str:
    root: Any = typer.main.get_command(app())
    parts = [
        "# Commands\n\nFrom `llmwise/cli`. `llmwise COMMAND --help` says the same. A mistake is one line on standard "
        "error and exit code 1 or 2.\n"
    ]
    for name, command in root.commands.items():
        for path, each in [(name, command)] + [(f"{name} {n}", c) for n, c in getattr(command, "commands", {}).items()]:
            parts.append(f"## `llmwise {path}`\n\n{_one_line(each.help or '')}\n")
            rows = [_parameter(p) for p in each.params if p.name != "help"]
            if rows:
                parts.append(_table(("option", "default", "meaning"), rows))
    return "\n".join(parts)


def error_codes() -> str:
    rows = [
        (
            f"`{kind.code}`",
            str(kind.status),
            "yes" if kind.retryable else "",
            {"none": "", "failure": "counts", "hard_down": "opens at once"}[kind.breaker],
            "caller" if kind.caller_fault else "",
            _cell(_meaning_in_tree(kind) or _own_docstring(kind)),
        )
        for kind in _error_classes()
    ]
    exact = sorted(set(_exact_codes()))
    return "\n".join(
        [
            "# Errors\n\nFrom `llmwise/domain/errors.py`. The native API answers every error with\n",
            '```json\n{"error": "a sentence", "code": "a_stable_code", "status_code": 429, "request_id": "r"}\n```\n',
            "and, where known, `provider`, `upstream_status`, `retry_after_s`, `reason`, `param`. OpenAI's dialect "
            'puts the same into its envelope, `{"error": {message, type, param, code, request_id}}`, with `type` by '
            "status: "
            + ", ".join(f"{status} `{name}`" for status, name in OPENAI_TYPES.items())
            + ", else `api_error`. Anthropic's dialect says "
            '`{"type": "error", "error": {type, message, code, param}, "request_id": "r"}`, with `type` by status: '
            + ", ".join(f"{status} `{name}`" for status, name in ANTHROPIC_TYPES.items())
            + ", else `api_error`. A body that is not valid is 400 in both and 422 in the native API. Once a stream's "
            "headers are out an error is its last event.\n",
            "*Moves on*: in a chain, before the first content, the next target is tried. *Circuit*: what it means for "
            "the target's breaker. *Fault*: who has to change something.\n",
            _table(("code", "status", "moves on", "circuit", "fault", ""), rows),
            "More exact codes, with the status of their class: " + ", ".join(f"`{c}` ({s})" for c, s in exact) + ".\n",
        ]
    )


def stream_events() -> str:
    grammar = re.search(r"\n\n((?:    \w+ .*\n)+)", events.__doc__ or "")
    assert grammar is not None
    shapes: list[tuple[str, type[Struct]]] = [
        ("chunk, without a chain", native.PlainChunk),
        ("chunk, with a chain", native.ChainChunk),
        ("the last chunk, `done: true`", native.LastChunk),
        ("route", native.RouteEvent),
        ("trace", native.TraceEvent),
        ("done", native.DoneEvent),
        ("compare: the last chunk of a model that failed", native.FailedChunk),
        ("compare: summary", native.SummaryEvent),
        ("compare: done", native.CompareDoneEvent),
    ]
    book = TypeBook()
    parts = [
        "# Stream events\n\nFrom `llmwise/wire/native.py` and `llmwise/api/native/events.py`: what `POST /api/v1/chat` "
        "sends as `text/event-stream`. Each event is one line `data: {json}` and an empty line; there are no `event:` "
        "or `id:` lines. The event's name is the JSON key `event`, and a chunk without a chain has none. The order:\n",
        "```text\n" + inspect.cleandoc(grammar[1]) + "\n```\n",
        "The last line is `data: [DONE]`. While a provider thinks, a comment (`: keep-alive`) comes every 15 s once "
        "the stream has begun. To print an answer: skip what has no `delta`, print each `delta`, stop at "
        '`event == "done"`.\n',
        "`POST /api/v1/compare` sends chunks without a chain, those of all models interleaved and each model's last "
        "one when it is done, then `summary` and `done` in shapes of their own ([how to read "
        "it](../howto/compare.md#read-the-stream)).\n",
    ]
    for title, shape in shapes:
        parts += [f"## {title}\n", book.fields(shape, answer=True)]
    parts += [
        "## error\n\nThe last event of a stream that began and failed: `event`, the fields of an [error](errors.md), "
        "and `refunded`.\n",
        "## Compat framing\n\nWith `/compat` in the base path (`http://host:8080/compat`) each event, comment and "
        "`[DONE]` is followed by one more line that holds only the characters backslash and n, and inside the JSON "
        "these are written as `\\u000a` and `\\u005c`. The published TypeScript client (npm `llmwise` 0.1.2) splits "
        "its stream there; standard parsers skip that line.\n",
        "## Types\n",
        *book.entries(),
    ]
    return "\n".join(parts)


def models() -> str:
    file = prices.read()
    at = int(datetime(file.taken.year, file.taken.month, file.taken.day, 12, tzinfo=UTC).timestamp() * 1000)
    rows: dict[str, list[tuple[str, ...]]] = {}
    for model in read_models():
        rows.setdefault(model.vendor, []).append(_model(model, file, at))
    parts = [
        "# Built-in models\n\nFrom `llmwise/catalog/models.toml` and `prices.json`. A provider offers these when it is "
        "configured and no `[[models]]` entry names it. `llmwise models` lists what your configuration offers.\n",
        f"Prices are USD per million tokens of input and output, as of noon UTC on {file.taken} ({file.source}); some "
        "change with the hour, the day or the prompt's length, and the gateway books those. `?` is not known, which is "
        "not free. *Quality* is a prior set by hand, not a measurement; Auto compares models by it. Capitals, and dots "
        "against dashes, never matter in a name.\n",
    ]
    head = ("model", "also called", "context", "in", "out", "takes", "tier", "quality")
    for vendor, entries in rows.items():
        parts += [f"## {vendor}\n", _table(head, entries)]
    return "\n".join(parts)


def providers() -> str:
    rows = [
        (f"`{v.name}`", v.family, f"`{v.base_url}`", f"`{v.env}`" if v.env else "none needed") for v in VENDORS.values()
    ]
    return "\n".join(
        [
            "# Known providers\n\nFrom `llmwise/providers/registry.py`. A `[providers.NAME]` with one of these names "
            'needs only its `api_key`. Any other server that speaks OpenAI\'s format needs `kind = "openai"` and a '
            "`base_url`. Besides: `local`, the built-in demonstration model, and kind `scripted`, which follows a "
            "[script](mock.md).\n",
            _table(("name", "format", "base URL", "key, without a configuration"), rows),
        ]
    )


def auto() -> str:
    share = {task: f"{bar:.0%}" for task, bar in QUALITY_BAR.items()}
    rows = [(f"`{task}`", f"`{GUIDE_MAP[task]}`", share[task]) for task in QUALITY_BAR]
    seen = [(_cell(text), classify(text)) for text in EXAMPLES]
    default = AutoSettings()
    parts = [
        "# Auto\n\nFrom `llmwise/routing/auto.py` and `classifier.py`. How these are used: "
        "[how Auto decides](../explanation/auto.md).\n",
        _table(("task type", "built-in map (goal balanced)", "bar"), rows),
        "*Bar*: how good a model must be for the class, as a share of the best candidate's quality. An unsure class "
        f"(confidence under {default.min_confidence:g}) is held to {UNSURE_BAR:.0%}, a question of difficulty {HARD:g} "
        "or more to the bar of `reasoning_analysis`.\n",
        "## What the classifier says\n",
    ]
    if not any(said.confidence for _, said in seen):
        parts.append(
            "**In this version the classifier is a placeholder**: every question is `conversation` with confidence 0. "
            "So Auto holds every question to the bar of an unsure one, or takes `default`; the map is not used.\n"
        )
    answers = [
        (f'"{text}"', f"`{c.task_type}`", f"{c.confidence:.2f}", f"{c.difficulty:.2f}", ", ".join(c.signals))
        for text, c in seen
    ]
    parts.append(_table(("question", "task type", "confidence", "difficulty", "signals"), answers))
    return "\n".join(parts)


EXAMPLES = (
    "What is the capital of France?",
    "Write a Python function that merges two sorted lists.",
    "Prove that the square root of 2 is irrational.",
    "Translate to German: the meeting is moved to Friday.",
    "Write a short story about a lighthouse keeper.",
    "Summarize this email in one sentence.",
    "Compare event sourcing and CRUD for a payment system, and recommend one.",
)


def metrics() -> str:
    rows = []
    for metric in Metrics().collect():
        name = metric.name + ("_total" if metric.type == "counter" else "")
        labels = getattr(metric, "_labelnames", ())
        rows.append((f"`{name}`", metric.type, _codes(labels), metric.documentation))
    return "\n".join(
        [
            "# Metrics\n\nFrom `llmwise/telemetry/metrics.py`: `GET /metrics`, in Prometheus' text format, without a "
            "key. Each worker process counts its own requests, and a scrape reaches one of them.\n",
            _table(("name", "type", "labels", "meaning"), rows),
        ]
    )


def mock() -> str:
    about, meanings = split_docstring(Settings)
    about = about.replace("`None` leaves", "Absent, a key leaves")
    rows = [(f"`{f.name}`", _type(f.type), _cell(meanings.get(f.name, ""))) for f in _fields(Settings)]
    parts = [
        "# Scripts for `llmwise mock`\n\nFrom `llmwise/providers/scripted/script.py`. How to use them: "
        "[test your application](../howto/test-your-application.md).\n",
        "```toml\n" + _script_example() + "\n```\n",
        f"## Settings\n\n{_sentence(about)}\n",
        _table(("key", "type", "meaning, and what holds without it"), rows),
        "## Rules\n\nA `[[rule]]` has any of the settings, and `model` (a name or pattern), `nth` (which of the "
        "model's requests, from 1) and `fault`:\n",
    ]
    common = {f.name for f in _fields(Rule)}
    faults = []
    for rule in get_args(AnyRule):
        own = [
            f"`{f.name}`: {_type(f.type)}" + (f", {_default(f)}" if _default(f) else "")
            for f in _fields(rule)
            if f.name not in common
        ]
        tag = rule.__struct_config__.tag
        faults.append((f"`{tag}`", _cell(inspect.getdoc(rule) or ""), "; ".join(own)))
    parts.append(_table(("fault", "what happens", "parameters"), faults))
    return "\n".join(parts)


PAGES: Mapping[str, Page] = {
    "configuration.md": configuration,
    "http-api.md": http_api,
    "stream-events.md": stream_events,
    "errors.md": error_codes,
    "cli.md": cli,
    "models.md": models,
    "providers.md": providers,
    "auto.md": auto,
    "metrics.md": metrics,
    "mock.md": mock,
}


# Docstrings


def split_docstring(struct: type[Struct]) -> tuple[str, dict[str, str]]:
    """A docstring's prose, and its aligned lines `key   meaning` (with their continuations) by key."""
    names = set(struct.__struct_fields__)
    prose: list[str] = []
    meanings: dict[str, str] = {}
    current = None
    for line in inspect.cleandoc(struct.__doc__ or "").splitlines():
        aligned = re.fullmatch(r"(\w+) {2,}(\S.*)", line)
        if aligned and aligned[1] in names:
            current = aligned[1]
            meanings[current] = aligned[2]
        elif current and line.startswith("  "):
            meanings[current] += " " + line.strip()
        else:
            current = None
            prose.append(line)
    return "\n".join(prose).strip(), meanings


def _script_example() -> str:
    from llmwise.providers.scripted import script

    example = re.search(r"\n\n((?: {4}.*\n|\n)+)", script.__doc__ or "")
    assert example is not None
    return inspect.cleandoc(example[1])


def _meaning_in_tree(kind: type[GatewayError]) -> str:
    """What the tree in the module's docstring says behind the code."""
    found = re.search(rf"── {kind.__name__} +(?:\d+ +\S+)? *(\S.*)?$", errors.__doc__ or "", re.MULTILINE)
    return (found[1] or "") if found else ""


def _error_classes() -> Iterator[type[GatewayError]]:
    """Every class that a caller can meet, in the order of the file; groups that are never raised have a subclass."""
    groups = {GatewayError, errors.CallerError, errors.UpstreamError}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, GatewayError) and kind not in groups:
            yield kind


def _exact_codes() -> Iterator[tuple[str, int]]:
    """Codes given to an instance, as the source has them: `Class(..., code="...")` and the tables of `failures`."""
    classes: list[type[GatewayError]] = [GatewayError, *_error_classes()]
    kinds = {kind.__name__: kind for kind in classes}
    for file in sorted((Path(errors.__file__).parents[1]).rglob("*.py")):
        if "scripted" in file.parts or "client" in file.parts:
            continue
        text = file.read_text("utf-8")
        for name, code in re.findall(r'\b(\w+)\((?:[^()]|\([^()]*\))*?\bcode="(\w+)"', text, re.DOTALL):
            if name in kinds:
                yield code, kinds[name].status
        for name, code in re.findall(r'_Meaning\((\w+), "\w+", "(\w+)"\)', text):
            yield code, kinds[name].status


# Types


class TypeBook:
    """Struct types met while a page is written: each gets an entry at its end, once, as part of a request or of an
    answer, whichever it was met in first."""

    def __init__(self) -> None:
        self._names: dict[type[Struct], tuple[str, bool]] = {}

    def show_answer(self, type_: Any) -> str:
        """A route's answer as text, with links to the entries."""
        return f"`{type_}`" if isinstance(type_, str) else _type(type_, self._linker(answer=True))

    def fields(self, struct: type[Struct], *, answer: bool = False) -> str:
        about = _one_line(_own_docstring(struct))
        link = self._linker(answer)
        rows = []
        for field in _fields(struct):
            row = [f"`{field.encode_name}`", _type(field.type, link)]
            if answer:
                row[1] += " or null" * _may_be(None.__class__, field.type) * field.required
                row[1] += "" if field.required else "; may be absent"
            else:
                row.append(_default(field))
            rows.append(row)
        head = ("field", "type") if answer else ("field", "type", "default")
        return (f"{about}\n\n" if about else "") + _table(head, rows)

    def entries(self) -> Iterator[str]:
        done = 0
        while done < len(self._names):  # an entry may bring further types
            struct, (name, answer) = list(self._names.items())[done]
            done += 1
            yield f"### {name}\n\n{self.fields(struct, answer=answer)}"

    def _linker(self, answer: bool) -> Callable[[type[Struct]], str]:
        def link(struct: type[Struct]) -> str:
            if struct not in self._names:
                plain = struct.__name__
                taken = any(name == plain for name, _ in self._names.values())
                dialect = struct.__module__.removeprefix("llmwise.").replace(".", " ")
                self._names[struct] = (f"{plain} ({dialect})" if taken else plain), answer
            name = self._names[struct][0]
            return f"[{name}](#{slug(name)})"

        return link


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _type(type_: Any, link: Callable[[type[Struct]], str] | None = None) -> str:
    origin = get_origin(type_)
    if origin is Annotated:
        base, *metas = get_args(type_)
        unit = "entries" if get_origin(base) in (list, tuple) else "characters"
        bounds = [bound for meta in metas if isinstance(meta, Meta) for bound in _bounds(meta, unit)]
        return _type(base, link) + (f" ({', '.join(bounds)})" if bounds else "")
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in get_args(type_))
    if origin in (Union, types.UnionType):
        some = [option for option in get_args(type_) if option not in (type(None), msgspec.UnsetType)]
        return " or ".join(dict.fromkeys(_type(option, link) for option in some))
    if origin in (list, tuple, Sequence):
        return f"list of {_type(get_args(type_)[0], link)}"
    if origin is dict:
        return f"table of {_type(get_args(type_)[1], link)}"
    if isinstance(type_, type) and issubclass(type_, Struct):
        return link(type_) if link is not None else "table"
    words = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "any", msgspec.Raw: "JSON"}
    return words.get(type_) or str(getattr(type_, "__name__", type_))


def _may_be(option: type, type_: Any) -> bool:
    return get_origin(type_) in (Union, types.UnionType) and option in get_args(type_)


def _own_docstring(kind: type) -> str:
    """Not its base's, as `inspect.getdoc` would find."""
    return inspect.cleandoc(vars(kind).get("__doc__") or "")


def _bounds(meta: Meta, unit: str) -> Iterator[str]:
    for sign, value in (("≥", meta.ge), (">", meta.gt), ("≤", meta.le), ("<", meta.lt)):
        if value is not None:
            yield f"{sign} {value:,}"
    if meta.min_length:
        yield f"at least {meta.min_length}"
    if meta.max_length is not None:
        yield f"at most {meta.max_length} {unit}"


def _fields(struct: type[Struct]) -> Iterable[Any]:
    return msgspec.structs.fields(struct)


def _default(field: Any) -> str:
    if field.required:
        return "required"
    if field.default is msgspec.NODEFAULT:
        return "empty"
    value = field.default
    if value is None or value is msgspec.UNSET or value == "":
        return ""
    if isinstance(value, Struct):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:_}`" if isinstance(value, int) and value >= 100_000 else f"`{value}`"


# Rows


def _model(model: BuiltinModel, file: prices.PriceFile, unix_ms: int) -> tuple[str, ...]:
    schedule = None if model.free else file.schedule(model.vendor, model.upstream)
    rate = None if schedule is None else schedule.at(unix_ms)
    paid = ("0", "0") if model.free else ("?", "?")
    if rate is not None:
        paid = (f"{rate.input / NANO_PER_USD:g}", f"{rate.output / NANO_PER_USD:g}")
    notes = (["demonstration only"] if model.demonstration else []) + (
        [f"until {model.retires}"] if model.retires is not None else []
    )
    takes = ", ".join([*(ability for ability in model.capabilities if ability != "json_object"), *notes])
    context = f"{model.context_window:,}"
    return f"`{model.id}`", _codes(model.aliases), context, *paid, takes, model.tier, f"{model.quality:g}"


def _parameter(parameter: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        name = f"`{parameter.name.upper()}`"
    else:
        name = ", ".join(f"`{option}`" for option in parameter.opts)
    default = "required" if parameter.required else ""
    if parameter.default is not None and not callable(parameter.default) and not parameter.required:
        default = "" if parameter.default is False else f"`{parameter.default}`"
    if parameter.param_type_name == "option" and isinstance(parameter.envvar, str):
        default += (", or " if default else "") + f"`${parameter.envvar}`"
    return name, default, _cell(getattr(parameter, "help", None) or "")


def _route_link(route: Route) -> str:
    heading = f"{route.method} {route.path}"
    return f"[{heading}](#{slug(heading)})"


def _who(route: Route) -> str:
    return {"open": "anyone", "key": "a key", "admin": "an administrator's key"}[route.access]


def _key_variables() -> Iterator[str]:
    return (vendor.env for vendor in VENDORS.values() if vendor.env is not None)


def _ability_names() -> Iterator[str]:
    return iter(get_type_hints(type(ModelSettings(id="x").capabilities)))


# Markdown


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _sentence(text: str) -> str:
    """Prose as it stands, its first word begun with a capital and its lines joined."""
    text = "\n\n".join(_one_line(block) for block in text.split("\n\n"))
    return text[:1].upper() + text[1:]


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
