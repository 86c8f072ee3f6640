"""Several choices of one answer (`n`), as OpenAI's chunks and as its completion. See `orchestration.choices`."""

from collections.abc import Sequence

from msgspec.json import Encoder

from llmwise.api.account import account, model_of
from llmwise.api.errors import openai_body
from llmwise.api.openai.events import DONE, OpenAIStream, choice, usage_of
from llmwise.domain.errors import GatewayError
from llmwise.orchestration.chat import Answer
from llmwise.orchestration.fanout import Batch
from llmwise.orchestration.settlement import Ledger
from llmwise.wire import openai as wire

_encode = Encoder().encode


class ChoicesStream:
    """Renders the choices as their events come, each under its index; usage is that of all. The account of the request
    comes with the last choice's end."""

    def __init__(self, ledger: Ledger, choices: Sequence[Ledger], *, include_usage: bool) -> None:
        self._ledger = ledger
        self._choices = choices
        self._include_usage = include_usage
        self._created = ledger.created_at_ms // 1000
        self._streams = [
            OpenAIStream(one, include_usage=False, index=index, created=self._created)
            for index, one in enumerate(choices)
        ]

    def render(self, batch: Batch) -> bytes:
        return self._streams[batch.source].render(batch.events)

    def end(self) -> bytes:
        *others, last = self._streams
        out = b"".join([stream.finished(None) for stream in others]) + last.finished(self._ledger)
        if self._include_usage:
            assert self._ledger.final is not None
            model = model_of(self._ledger)
            usage = wire.Chunk(_id(self._ledger), self._created, model, [], _usage(self._choices))
            out += b"data: " + _encode(usage) + b"\n\n"
        return out + DONE

    def fail(self, error: GatewayError) -> bytes:
        return b"data: " + openai_body(error, self._ledger.id) + b"\n\n" + DONE


def completion(answers: Sequence[Answer], ledger: Ledger, choices: Sequence[Ledger]) -> bytes:
    """A whole answer. Choices that failed over may be other models': the answer names the first one's."""
    return _encode(
        {
            "id": _id(ledger),
            "object": "chat.completion",
            "created": ledger.created_at_ms // 1000,
            "model": model_of(choices[0]),
            "choices": [choice(one, index) for index, one in enumerate(answers)],
            "usage": _usage(choices),
            "llmwise": account(ledger),
        }
    )


def _id(ledger: Ledger) -> str:
    return "chatcmpl-" + ledger.id


def _usage(choices: Sequence[Ledger]) -> wire.Usage:
    every = [usage_of(one.final) for one in choices if one.final is not None]
    prompt = sum(usage.prompt_tokens or 0 for usage in every)
    written = sum(usage.completion_tokens or 0 for usage in every)
    cached = sum((usage.prompt_tokens_details or wire.PromptTokensDetails()).cached_tokens or 0 for usage in every)
    thought = sum(
        (usage.completion_tokens_details or wire.CompletionTokensDetails()).reasoning_tokens or 0 for usage in every
    )
    return wire.Usage(
        prompt_tokens=prompt,
        completion_tokens=written,
        total_tokens=prompt + written,
        prompt_tokens_details=wire.PromptTokensDetails(cached_tokens=cached),
        completion_tokens_details=wire.CompletionTokensDetails(reasoning_tokens=thought),
    )
