"""A run of the engine as the Responses API's stream, and the same put together as a whole response.

Which model answered, the route, cost and warnings ride in one extra object, `llmwise`, which official clients ignore:
on the whole response, and in a stream on the response of its last event.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Raw
from msgspec.json import Decoder, Encoder
from msgspec.structs import replace

from llmwise.api.account import account, with_account
from llmwise.api.errors import openai_body
from llmwise.api.responses.output import Output
from llmwise.domain.errors import GatewayError
from llmwise.domain.events import (
    Event,
    Finished,
    FinishReason,
    OpaquePart,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Verbatim,
)
from llmwise.domain.messages import Family
from llmwise.domain.records import AttemptRecord
from llmwise.orchestration.settlement import Ledger
from llmwise.wire import responses as wire

INCOMPLETE: Final[Mapping[FinishReason, str]] = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Ends that are not complete. An unknown end is said as `completed`, which every client takes, and warned of."""

_ECHOED: Final[Mapping[str, Any]] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "top_p": 1.0,
    "truncation": "disabled",
}
"""What a response says of its request, and what it says where the request does not:
https://platform.openai.com/docs/api-reference/responses/object (2026-11-22)."""

_encode = Encoder().encode
_LAST: Final = Decoder(wire.LastEvent)
_NUMBER: Final = re.compile(rb'"sequence_number": ?(\d+)')
_ERROR: Final = Decoder(dict[str, Raw])


class ResponsesStream:
    """Renders one run of the engine as events."""

    def __init__(self, ledger: Ledger, families: Mapping[str, Family]) -> None:
        """`families` says by a target's id what its provider speaks."""
        self._ledger = ledger
        self._families = families
        self._output = Output(ledger.id)
        self._base = _base(ledger)
        self._started = False
        self._finish: Finished | None = None
        self._head: tuple[tuple[str, int, int], bytes] | None = None
        self._last = b""  # of the provider's own bytes

    def render(self, events: Sequence[Event]) -> bytes:
        if len(events) == 1:  # nearly every batch of a stream
            event = events[0]
            if type(event) is Verbatim:
                return self._passed(event)
            if type(event) is TextDelta and event.text:
                where = self._output.text_head
                if where is not None:
                    return self._text(where, event.text)
        return b"".join([self._rendered(event) for event in events])

    def end(self) -> bytes:
        assert self._finish is not None, "a run that succeeds has its provider's end"
        if self._finish.frame is not None:
            last = _LAST.decode(self._finish.frame)
            last = replace(last, response=Raw(with_account(bytes(last.response), self._ledger)))
            return b"event: %b\ndata: %b\n\n" % (last.type.encode(), _encode(last))
        out = [self._begin(), self._steps(self._output.end(_item_status(self._finish)))]
        self._ledger.warnings += self._output.warnings
        response = self._base | _ending(self._finish, self._output, self._ledger)
        done = wire.Incomplete if response["status"] == "incomplete" else wire.Completed
        out.append(_frame(done(sequence_number=self._output.number(), response=response)))
        return b"".join(out)

    def fail(self, error: GatewayError) -> bytes:
        """Both of OpenAI's words for it: `error`, which clients raise, and the response with its end."""
        if numbers := _NUMBER.findall(self._last):
            self._output.sequence = int(numbers[-1]) + 1
        envelope = _ERROR.decode(openai_body(error, self._ledger.id))["error"]
        broken = wire.Broken(
            sequence_number=self._output.number(),
            code=error.code,
            message=error.message,
            param=error.details.get("param"),
            error=envelope,
        )
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        response = self._base | {
            "status": "failed",
            "error": wire.Error(code, error.message),
            "output": _in_order(self._output),
        }
        if self._ledger.record is not None:
            response["llmwise"] = account(self._ledger)
        failed = wire.Failed(sequence_number=self._output.number(), response=response)
        return self._begin() + _frame(broken) + _frame(failed)

    def _rendered(self, event: Event) -> bytes:
        match event:
            case Verbatim():
                return self._passed(event)
            case Started():
                return self._begin(event)
            case Finished():
                # Held until the run has ended: a stream that says it is finished must not fail after that.
                self._finish = event
            case TextDelta() | ReasoningDelta() | RefusalDelta() | ToolCallDelta() | OpaquePart():
                return self._begin() + self._steps(self._output.take(event))
            case _:
                pass
        return b""

    def _passed(self, event: Verbatim) -> bytes:
        """The provider's own events: what is added to them, if they break off, goes under their name and number."""
        self._last = event.data
        if not self._started:
            self._started = True
            started = next((said for said in event.said if isinstance(said, Started)), None)
            self._base |= _answered(self._ledger, started)
        return event.data

    def _begin(self, started: Started | None = None) -> bytes:
        """`response.created` and `response.in_progress`, once."""
        if self._started:
            return b""
        self._started = True
        self._base |= _answered(self._ledger, started)
        self._output.family = self._families.get(self._base["model"], "openai")
        response = self._base | {"status": "in_progress"}
        created = wire.Created(sequence_number=self._output.number(), response=response)
        return _frame(created) + _frame(wire.InProgress(sequence_number=self._output.number(), response=response))

    def _steps(self, steps: Iterable[wire.Event]) -> bytes:
        return b"".join([_frame(step) for step in steps])

    def _text(self, where: tuple[str, int, int], text: str) -> bytes:
        """A piece of text. All that changes from one to the next is the text and the number."""
        if self._head is None or self._head[0] != where:
            item_id, output_index, content_index = where
            fields = {"item_id": item_id, "output_index": output_index, "content_index": content_index}
            head = _encode({"type": "response.output_text.delta", **fields})[:-1] + b',"logprobs":[],"delta":'
            self._head = where, b"event: response.output_text.delta\ndata: " + head
        number = self._output.more_text(text)
        return self._head[1] + _encode(text) + b',"sequence_number":%d}\n\n' % number


def whole(events: Sequence[Event], ledger: Ledger, families: Mapping[str, Family]) -> bytes:
    """A whole answer: OpenAI's response, the provider's own where it can be passed on, and the `llmwise` object."""
    for event in events:
        if isinstance(event, Verbatim):
            return with_account(event.data, ledger)
    output = Output(ledger.id)
    finish: Finished | None = None
    started: Started | None = None
    final = ledger.final
    assert final is not None
    output.family = families.get(final.model, "openai")
    for event in events:
        if isinstance(event, Finished):
            finish = event
        elif isinstance(event, Started):
            started = event
        else:
            for _ in output.take(event):
                pass
    assert finish is not None, "a run that succeeds has its provider's end"
    for _ in output.end(_item_status(finish)):
        pass
    ledger.warnings += output.warnings
    return _encode(_base(ledger) | _answered(ledger, started) | _ending(finish, output, ledger))


def usage_of(final: AttemptRecord) -> wire.Usage:
    """OpenAI counts cached tokens inside the input's and reasoning inside the output's."""
    prompt = final.input_tokens + final.cache_read_tokens + final.cache_write_tokens
    return wire.Usage(
        prompt,
        final.output_tokens,
        wire.InputTokensDetails(final.cache_read_tokens, final.cache_write_tokens),
        wire.OutputTokensDetails(final.reasoning_tokens),
        prompt + final.output_tokens,
    )


def _base(ledger: Ledger) -> dict[str, Any]:
    """What a response says from its beginning: the caller's own request, for the most part."""
    own = ledger.request.passthrough
    fields = {} if own is None else own.fields
    return {
        "id": f"resp_{ledger.id}",
        "object": "response",
        "created_at": ledger.created_at_ms // 1000,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": ledger.plan.attempts[0].target.id,
        "output": [],
        "tools": _tools(fields.get("tools")),
        **{
            name: Raw(fields[name]) if fields.get(name, b"null") != b"null" else unsaid
            for name, unsaid in _ECHOED.items()
        },
    }


def _tools(given: bytes | None) -> list[Any]:
    """The caller's tools; a function says all that the specification requires of one."""
    if given is None or given == b"null":
        return []
    return [
        tool if tool.get("type") != "function" else {"parameters": None, "strict": None, **tool}
        for tool in _TOOLS.decode(given)
    ]


_TOOLS: Final = Decoder(list[dict[str, Any]])


def _answered(ledger: Ledger, started: Started | None) -> dict[str, Any]:
    """Who answers. The id is the provider's own where it is a response's, so that a next request can refer to it; only
    there is a response stored, unless the caller said not to."""
    steps = (step.model for step in reversed(ledger.steps) if step.status == "success")
    fields: dict[str, Any] = {"model": next(steps, ledger.plan.attempts[0].target.id), "store": False}
    if started is not None and started.id is not None and started.id.startswith("resp_"):
        own = ledger.request.passthrough
        fields |= {"id": started.id, "store": own is None or own.fields.get("store") != b"false"}
    return fields


def _ending(finish: Finished, output: Output, ledger: Ledger) -> dict[str, Any]:
    final = ledger.final
    assert final is not None
    why = INCOMPLETE.get(finish.reason)
    return {
        "status": "completed" if why is None else "incomplete",
        "incomplete_details": None if why is None else {"reason": why},
        "completed_at": None if why is not None else ledger.clock.unix_ms() // 1000,
        "output": _in_order(output),
        "usage": usage_of(final),
        "llmwise": account(ledger),
    }


def _item_status(finish: Finished) -> wire.Status:
    return "incomplete" if finish.reason in INCOMPLETE else "completed"


def _in_order(output: Output) -> list[wire.Item]:
    return [output.items[index] for index in sorted(output.items)]


def _frame(event: wire.Event) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.__struct_config__.tag.encode(), _encode(event))  # type: ignore[union-attr]
