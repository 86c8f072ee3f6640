"""Which export is this? By what only it has: names of JSON fields, columns of a CSV header."""

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from llmwise.insights.audit import anthropic_usage, litellm_spend, openai_batch, openai_usage, requests_jsonl
from llmwise.insights.audit.drafts import Malformed, RequestDraft, UsageDraft
from llmwise.insights.audit.files import GZIP, Input, Unreadable, delimiter

Parsed: TypeAlias = Iterator[UsageDraft | RequestDraft | Malformed]
Layout: TypeAlias = Literal["lines", "values", "csv"]

LINES_LOOKED_AT = 20
"""To tell lines of JSON, some of them broken, from a document over several lines."""


class Format(Struct, frozen=True):
    """An export that is understood. JSON fits when `marks` (one of each) are in its head; CSV when all `columns` are
    in its header. `shape` is the struct of one value, `None` for CSV."""

    name: str
    title: str
    marks: tuple[tuple[str, ...], ...] = ()
    columns: frozenset[str] = frozenset()
    shape: type[Struct] | None = None


def _csv(name: str, title: str, *columns: str) -> Format:
    return Format(name, title, columns=frozenset(columns))


FORMATS: tuple[Format, ...] = (
    Format(
        "openai-usage",
        "OpenAI organization usage and costs API (JSON)",
        (('"organization.usage.', '"organization.costs.result"', '"bucket"'), ('"start_time"',)),
        shape=openai_usage.Page,
    ),
    Format(
        "anthropic-usage",
        "Anthropic Admin API usage and cost reports (JSON)",
        (('"starting_at"',), ('"results"',)),
        shape=anthropic_usage.Page,
    ),
    Format(
        "litellm",
        "LiteLLM spend logs (JSON array or lines)",
        (('"request_id"',), ('"startTime"',)),
        shape=litellm_spend.Row,
    ),
    Format(
        "openai-batch",
        "OpenAI batch input, output and error files (JSONL)",
        (('"custom_id"',),),
        shape=openai_batch.Line,
    ),
    Format(
        "requests",
        "llmwise request log (JSONL or JSON)",
        (('"created_at"',), ('"input_tokens"',), ('"output_tokens"',)),
        shape=requests_jsonl.Line,
    ),
    _csv("openai-costs-csv", "OpenAI dashboard cost export (CSV)", "start_time", "amount_value"),
    _csv("openai-activity-csv", "OpenAI dashboard activity export (CSV)", "num_model_requests", "input_tokens"),
    _csv("anthropic-usage-csv", "Anthropic Console usage export (CSV)", "usage_date_utc", "usage_output_tokens"),
    _csv("anthropic-costs-csv", "Anthropic Console cost export (CSV)", "usage_date_utc", "cost_usd"),
    _csv("litellm-csv", "LiteLLM spend logs (CSV)", "request_id", "startTime", "spend"),
    _csv("requests-csv", "llmwise request log (CSV)", "created_at", "model", "input_tokens", "output_tokens"),
)


class UnknownFormat(Unreadable):
    """No export that is understood."""


def recognise(file: Input) -> Format:
    """The format of a file. Raises `UnknownFormat`, which says what the file looks like and what is understood."""
    head = file.head.lstrip()
    if not head:
        raise UnknownFormat(f"{file.name}: is empty")
    if head[0] in "[{":
        if (found := _by_marks(head)) is not None:
            return found
        shown = _keys(head)[:120] or "no fields"
        raise UnknownFormat(f"{file.name}: JSON that is no export I know (it begins with {shown}); {_understood()}")
    try:
        columns = [name.strip() for name in next(csv.reader([head.split("\n", 1)[0]], delimiter=delimiter(head)), [])]
    except csv.Error:
        columns = []
    for each in FORMATS:
        if each.columns and each.columns <= set(columns):
            return each
    below = head.find("\n{")
    if below >= 0 and (found := _by_marks(head[below + 1 :])) is not None:
        return found  # lines of JSON, of which the first is broken
    if (why := _no_text(file)) is not None:
        raise UnknownFormat(f"{file.name}: {why}")
    shown = ", ".join(name[:30] for name in columns[:12]) or "no CSV either"
    raise UnknownFormat(f"{file.name}: neither JSON nor a CSV that I know (its first line is {shown}); {_understood()}")


def layout(file: Input, format: Format) -> Layout:
    """How its values are laid out: `lines` where one of the first is an object of its own."""
    if format.columns:
        return "csv"
    head = file.head.lstrip()
    if head[0] == "[":
        return "values"
    first, *more = [line for line in head.split("\n")[:LINES_LOOKED_AT] if line.strip()]
    if not more:
        return "lines" if _is_object(first) else "values"
    return "lines" if any(map(_is_object, more)) or (_is_object(first) and more[0][:1] == "{") else "values"


def parser(format: Format, batch: openai_batch.Pairing) -> Callable[[Any], Parsed]:
    """What makes drafts of one value of the format's shape, or of one row of CSV."""
    parsers: dict[str, Callable[[Any], Parsed]] = {
        "openai-usage": openai_usage.page,
        "anthropic-usage": anthropic_usage.page,
        "litellm": litellm_spend.row,
        "openai-batch": batch.line,
        "requests": requests_jsonl.line,
        "openai-costs-csv": openai_usage.csv_row,
        "openai-activity-csv": openai_usage.csv_row,
        "anthropic-usage-csv": anthropic_usage.csv_row,
        "anthropic-costs-csv": anthropic_usage.csv_row,
        "litellm-csv": litellm_spend.csv_row,
        "requests-csv": requests_jsonl.csv_row,
    }
    return parsers[format.name]


def values(file: Input, format: Format) -> Iterator[tuple[int, Any]]:
    """Numbered values of the format's shape (rows of CSV: by column), and `Malformed` where there is none."""
    how = layout(file, format)
    if how == "csv":
        yield from file.rows()
        return
    assert format.shape is not None
    if how == "lines":
        decode = msgspec.json.Decoder(format.shape).decode
        for number, line in file.lines():
            if isinstance(line, Malformed):
                yield number, line
                continue
            try:
                yield number, decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                yield number, Malformed(_why(error))
        return
    for number, value in file.values():
        if isinstance(value, Malformed):
            yield number, value
            continue
        try:
            yield number, msgspec.convert(value, format.shape)
        except (msgspec.MsgspecError, RecursionError) as error:
            yield number, Malformed(_why(error))


def _by_marks(head: str) -> Format | None:
    keys = _keys(head)
    for each in FORMATS:
        if each.marks and all(any(mark in keys for mark in either) for either in each.marks):
            return each
    return None


def _no_text(file: Input) -> str | None:
    """What is the matter with a file that is no text as it should be, and what to do."""
    if file.start == GZIP:
        return "is compressed twice: unpack it once"
    if file.start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return 'is UTF-16: save it as UTF-8 (in Excel: "CSV UTF-8")'
    if "\0" in file.head:
        return f"is no text; {_understood()}"
    if "\r" in file.head and "\n" not in file.head:
        return "its lines end in a carriage return alone: save it with line feeds"
    return None


def _why(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__


def _keys(head: str) -> str:
    """What marks are looked for in: the first object's fields, or the whole head where that is longer than it."""
    start = head.find("{")
    try:
        first, _ = json.JSONDecoder().raw_decode(head, start) if start >= 0 else ({}, 0)
    except (json.JSONDecodeError, RecursionError):
        first = None
    if isinstance(first, dict) and "data" not in first:
        return " ".join(f'"{name}"' for name in first)
    return " ".join(dict.fromkeys(re.findall(r'"[\w.]{1,60}"', head)))


def _understood() -> str:
    return "understood are: " + "; ".join(each.title for each in FORMATS)


def _is_object(line: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.DecodeError, RecursionError):
        return False
