"""Faults as errors: what a dialect says, and what an adapter makes of it.

The errors come out of the same tables as for a real provider (`providers.failures`), fed with the bytes that the
scripted server would have sent, so that the provider inside the process and the one over HTTP can't drift apart.
"""

from typing import TypeAlias, assert_never

from llmwise.domain.errors import GatewayError, UpstreamCut, UpstreamInvalid
from llmwise.domain.messages import Family
from llmwise.providers.failures import from_event, from_response, from_transport
from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.anthropic import Anthropic
from llmwise.providers.scripted.dialect import Dialect, Refusal, refusal_of
from llmwise.providers.scripted.gemini import Gemini
from llmwise.providers.scripted.openai import OpenAI
from llmwise.providers.scripted.responses import Responses
from llmwise.providers.transport import TransportError

_DIALECTS: dict[Family, Dialect] = {
    "openai": OpenAI(),
    "responses": Responses(),
    "anthropic": Anthropic(),
    "gemini": Gemini(),
}

BeforeAnswer: TypeAlias = (
    faults.RateLimit
    | faults.Status
    | faults.Overloaded
    | faults.ContextTooLong
    | faults.Refuse
    | faults.WrongContentType
)
AmidAnswer: TypeAlias = faults.Cut | faults.Malformed | faults.Oversized | faults.ErrorIn200 | faults.NoTerminal


def error_before(rule: BeforeAnswer, family: Family, provider: str) -> GatewayError:
    """The error in place of an answer."""
    match rule:
        case faults.Refuse():
            return from_transport(TransportError("closed", "no answer (scripted)"), provider=provider)
        case faults.WrongContentType():
            return UpstreamInvalid(f"{provider} answered a page (scripted)", provider=provider, upstream_status=200)
        case _:
            dialect = _DIALECTS[family]
            refusal = refusal_of(rule, dialect)
            headers = {} if refusal.retry_after_s is None else {"retry-after": str(refusal.retry_after_s)}
            return from_response(refusal.status, headers, dialect.error(refusal), provider=provider)


def error_amid(rule: AmidAnswer, family: Family, provider: str, *, stream: bool) -> GatewayError:
    """The error that ends an answer. A whole body that ends early but cleanly is just no JSON."""
    match rule:
        case faults.NoTerminal() if stream:
            return UpstreamCut(f"{provider} ended without its terminal frame (scripted)", provider=provider)
        case faults.Cut():
            return from_transport(TransportError("read", "the answer broke off (scripted)"), provider=provider)
        case faults.Malformed() | faults.NoTerminal():
            return UpstreamInvalid(f"{provider} sent what is not JSON (scripted)", provider=provider)
        case faults.Oversized(bytes=size):
            return UpstreamInvalid(f"{provider} sent a frame of {size} bytes (scripted)", provider=provider)
        case faults.ErrorIn200():
            frame = _DIALECTS[family].error_frame(Refusal(rule.status, rule.message))
            return from_event(frame.data, provider=provider)
        case _:
            assert_never(rule)
