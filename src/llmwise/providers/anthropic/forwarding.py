"""What a caller of Anthropic's own dialect said goes along to Anthropic: its messages, settings and headers, which say
more than the gateway understands. What the model at hand doesn't take is sent as the codec fitted it."""

from msgspec import UNSET, DecodeError, Raw, UnsetType
from msgspec.json import Decoder, Encoder
from msgspec.structs import replace

from llmwise.domain.requests import ChatRequest
from llmwise.providers.anthropic.generations import Generation
from llmwise.providers.losses import Losses
from llmwise.wire.anthropic import MessagesRequest, OutputConfig, Thinking, Typed

VERSIONS = frozenset(("2023-06-01", "2026-10-21"))
"""The versions whose answers this codec reads: they are the same. The newer one refuses more, a way of sampling above
all (https://platform.claude.com/docs/en/api/migration-2026-10-21, read 2026-11-22): so the older one is sent, unless a
caller of this dialect says the newer."""

_OWN = frozenset(MessagesRequest.__struct_fields__)
_ENCODER = Encoder()
_TYPED = Decoder(Typed)
_OUTPUT = Decoder(OutputConfig)


def has_own_messages(request: ChatRequest) -> bool:
    own = request.passthrough
    return own is not None and own.dialect == "anthropic" and "messages" in own.fields


def own_headers(request: ChatRequest, losses: Losses) -> tuple[tuple[str, str], ...]:
    """The caller's betas and version go along; a version that this codec doesn't know does not."""
    own = request.passthrough
    if own is None or own.dialect != "anthropic":
        return ()
    headers = []
    for name, value in own.headers:
        if name == "anthropic-version" and value not in VERSIONS:
            losses.note(name, f"{value!r} is none of {', '.join(sorted(VERSIONS))}: the oldest is asked for")
        else:
            headers.append((name, value))
    return tuple(headers)


def with_own(
    body: MessagesRequest, request: ChatRequest, rules: Generation, losses: Losses, *, as_it_came: bool
) -> bytes:
    """Our body, and around it what a client of the same dialect said besides: fields that we have no notion of, and its
    own messages, tools, thinking and output settings, which say more than we understand (citations, server tools, cache
    breakpoints). Messages that had to be changed for this model are sent as we know them."""
    own = request.passthrough
    if own is None or own.dialect != "anthropic":
        return _ENCODER.encode(body)
    fields = own.fields
    if as_it_came:
        body = _replaced(body, "messages", fields["messages"])
    else:
        for field, why in own.details:
            if field.startswith("messages"):
                losses.drop(field, f"the conversation was rewritten for this model; {why}")
    body = _replaced(body, "tools", fields.get("tools"))
    if not request.tools:  # server tools alone
        body = _replaced(body, "tool_choice", fields.get("tool_choice"))
    if (said := fields.get("thinking")) is not None and _takes(said, body, rules):
        body = _replaced(body, "thinking", said)
        if "output_config" not in fields:  # no effort was said, and the API's own default holds
            body = replace(body, output_config=UNSET)
    if (said := fields.get("output_config")) is not None and _takes_output(said, rules, losses):
        body = _replaced(body, "output_config", said)
    rest = [b"%b:%b" % (_ENCODER.encode(key), value) for key, value in fields.items() if key not in _OWN]
    encoded = _ENCODER.encode(body)
    return b",".join([encoded[:-1], *rest]) + b"}" if rest else encoded


def _takes_output(output: bytes, rules: Generation, losses: Losses) -> bool:
    """Whether the model takes these settings as they came; else ours are sent, which are fitted to it."""
    try:
        said = _OUTPUT.decode(output)
    except DecodeError:
        return False
    if not isinstance(said.effort, UnsetType) and said.effort not in rules.efforts:
        if rules.efforts:
            losses.change(
                "output_config.effort", f"{said.effort} is not one of the model's: {', '.join(rules.efforts)}"
            )
        else:
            losses.drop("output_config.effort", "the model has none")
        return False
    return bool(rules.efforts and rules.schema)


def _takes(thinking: bytes, body: MessagesRequest, rules: Generation) -> bool:
    try:
        kind = _TYPED.decode(thinking).type
    except DecodeError:
        return False
    if kind in ("enabled", "adaptive"):
        return isinstance(body.thinking, Thinking) and body.thinking.type == kind
    return kind == rules.off or (kind == "disabled" and rules.off == "omit")


def _replaced(body: MessagesRequest, field: str, value: bytes | None) -> MessagesRequest:
    return body if value is None else replace(body, **{field: Raw(value)})
