"""Reasoning that outlives a turn: what a model said beside its tool calls goes back to it with their results.

A caller's format may have no place for it: one that speaks OpenAI's loses Anthropic's thinking and Gemini's thought
signatures, and the next turn of a tool loop is refused or thinks from scratch. So a turn with tool calls is kept for a
while (`TurnStore`), found again by its calls, and put back where the caller left it out and a target of the same family
is asked. For another family it stays out: the codecs send no stranger's thinking.

A turn is found by the caller's key, the call's id, name and arguments, and the user's words before it: some vendors
number their calls (`functions.weather:0`), and an id alone could bring up another conversation's thoughts.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from hashlib import blake2b
from typing import Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from llmwise.domain.events import Event, Finished, ReasoningDelta, ToolCallDelta, spelled_out
from llmwise.domain.messages import Family, Message, Reasoning, ToolCall
from llmwise.domain.plan import PORTABLE, Origin
from llmwise.domain.ports import Provider
from llmwise.domain.requests import ChatRequest, Request
from llmwise.orchestration.settlement import Ledger
from llmwise.state.turns import TurnStore


class Engine(Protocol):
    """Runs plans (see `mesh.Mesh.run`)."""

    @property
    def total_s(self) -> float: ...

    def run(self, request: Request, ledger: Ledger) -> AsyncGenerator[Sequence[Event], None]: ...


class Turn(Struct, frozen=True, array_like=True, gc=False):
    """What is kept of an answer with tool calls. `signatures` are by the call's id."""

    model: str
    provider: str
    family: Family
    reasoning: tuple[Reasoning, ...] = ()
    signatures: dict[str, str] = {}


Recalled = Mapping[int, Turn]
"""Turns by the index of their message."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Turn).decode


class Continuity:
    """An engine that keeps what its answers with tool calls leave behind."""

    def __init__(self, engine: Engine, turns: TurnStore, providers: Mapping[str, Provider]) -> None:
        self._engine = engine
        self._turns = turns
        self._providers = providers

    @property
    def total_s(self) -> float:
        return self._engine.total_s

    def run(self, request: Request, ledger: Ledger) -> AsyncGenerator[Sequence[Event], None]:
        batches = self._engine.run(request, ledger)
        if not isinstance(request, ChatRequest) or not request.tools or ledger.handling.zero_retention:
            return batches
        return self._kept(batches, request, ledger)

    async def recall(self, key_id: str, request: ChatRequest) -> Recalled:
        """The turns of the conversation that are still known."""
        places: list[tuple[int, bytes]] = []
        for index, message in enumerate(request.messages):
            if message.role == "assistant":
                calls = [part for part in message.parts if isinstance(part, ToolCall)]
                said = _said_before(request.messages[:index]) if calls else ""
                places += [(index, _address(key_id, said, call)) for call in calls]
        if not places:
            return {}
        found = await self._turns.get([address for _, address in places])
        return {index: _decode(kept) for (index, _), kept in zip(places, found, strict=True) if kept is not None}

    async def _kept(
        self, batches: AsyncGenerator[Sequence[Event], None], request: ChatRequest, ledger: Ledger
    ) -> AsyncGenerator[Sequence[Event], None]:
        heard = _Heard()
        async with aclosing(batches):
            async for batch in batches:
                if any(heard.take(event) for event in spelled_out(batch)):
                    await self._keep(heard, request, ledger)
                yield batch

    async def _keep(self, heard: "_Heard", request: ChatRequest, ledger: Ledger) -> None:
        answered = next((step.model for step in reversed(ledger.steps) if step.status == "success"), None)
        card = next((a.target for a in ledger.plan.attempts if a.target.id == answered), None)
        provider = None if card is None else self._providers.get(card.provider)
        if card is None or provider is None or not heard.calls:
            return
        calls = [*heard.calls.values()]
        family = provider.family
        turn = Turn(
            card.id,
            card.provider,
            family,
            tuple(replace(thought, family=family) for thought in heard.thoughts.values()),
            {call.id: call.signature for call in calls if call.signature is not None},
        )
        said = _said_before(request.messages)
        await self._turns.put([_address(ledger.key_id, said, call) for call in calls], _encode(turn))


class _Heard:
    """The calls and thoughts of one answer, as they come."""

    def __init__(self) -> None:
        self.calls: dict[int, ToolCall] = {}
        self.thoughts: dict[int, Reasoning] = {}

    def take(self, event: Event) -> bool:
        """Whether it was the answer's last."""
        match event:
            case ToolCallDelta():
                call = self.calls.get(event.index, ToolCall("", "", ""))
                self.calls[event.index] = ToolCall(
                    event.id or call.id,
                    event.name or call.name,
                    call.arguments + event.arguments,
                    event.signature or call.signature,
                )
            case ReasoningDelta():
                thought = self.thoughts.get(event.block, Reasoning())
                signature = (thought.signature or "") + (event.signature or "")
                self.thoughts[event.block] = Reasoning(
                    thought.text + event.text, signature or None, event.redacted or thought.redacted
                )
            case Finished():
                return True
            case _:
                pass
        return False


def origin(request: ChatRequest, recalled: Recalled) -> Origin | None:
    """Who made the calls whose results end the conversation; `None` when it doesn't end with results, or nobody knows.
    Of a turn that was not kept, its proofs still tell the family."""
    messages = request.messages
    last = next((i for i in range(len(messages) - 1, -1, -1) if messages[i].role == "assistant"), None)
    if last is None or not any(message.role == "tool" for message in messages[last + 1 :]):
        return None
    if (turn := recalled.get(last)) is not None:
        return Origin(turn.model, turn.family)
    for part in messages[last].parts:
        if isinstance(part, Reasoning) and part.family is not None and (part.signature or part.redacted):
            return Origin(None, part.family)
        if isinstance(part, ToolCall) and part.signature:
            return Origin(None, "gemini")
    return None


def restored(request: ChatRequest, recalled: Recalled, targets: Mapping[str, Family]) -> ChatRequest:
    """`request` with what its turns left behind, for `targets` (families by the provider's name). What the caller sent
    itself is never replaced, and a turn that no target could read is left alone."""
    messages = list(request.messages)
    for index, turn in recalled.items():
        if _readable(turn, targets):
            messages[index] = _whole(messages[index], turn)
    changed = tuple(messages)
    if changed == request.messages:
        return request
    own = request.passthrough
    if own is not None:  # the caller's own messages lack what was put back
        fields = {name: text for name, text in own.fields.items() if name not in ("messages", "input")}
        own = replace(own, fields=fields)
    return replace(request, messages=changed, passthrough=own)


def _readable(turn: Turn, targets: Mapping[str, Family]) -> bool:
    return turn.family in targets.values() if turn.family in PORTABLE else turn.provider in targets


def _whole(message: Message, turn: Turn) -> Message:
    parts = [
        replace(part, signature=part.signature or turn.signatures.get(part.id)) if isinstance(part, ToolCall) else part
        for part in message.parts
    ]
    proven = any(isinstance(p, Reasoning) and (p.signature or p.redacted) for p in parts)
    told = turn.family == "openai" and any(isinstance(p, Reasoning) for p in parts)  # there words need no proof
    if turn.reasoning and not proven and not told:
        parts = [*turn.reasoning, *(part for part in parts if not isinstance(part, Reasoning))]
    return replace(message, parts=tuple(parts))


def _said_before(messages: Sequence[Message]) -> str:
    """The user's last words."""
    return next((message.text for message in reversed(messages) if message.role == "user" and message.text), "")


def _address(key_id: str, said: str, call: ToolCall) -> bytes:
    """Where a turn is kept. Arguments are compared as values: a client may write them anew."""
    try:
        arguments = msgspec.json.encode(msgspec.json.decode(call.arguments), order="deterministic")
    except (msgspec.DecodeError, RecursionError):
        arguments = call.arguments.strip().encode() or b"{}"
    digest = blake2b(digest_size=16)
    for piece in (key_id.encode(), said.encode("utf-8", "surrogatepass"), call.id.encode(), call.name.encode()):
        digest.update(b"%d:" % len(piece) + piece)
    digest.update(arguments)
    return digest.digest()
