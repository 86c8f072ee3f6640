"""The gateway's own questions, for suites, schedules and graders: through the same admission, engine and account as a
caller's, in the name of a key. Each is an ordinary record, tagged by its conversation."""

from collections.abc import Awaitable, Callable

from llmwise.api.admission import reserve
from llmwise.api.auth import Principal
from llmwise.api.http import Caller
from llmwise.api.intake import planned
from llmwise.api.limits import Standing
from llmwise.api.services import Services
from llmwise.domain.errors import GatewayError
from llmwise.domain.messages import Message, Text
from llmwise.domain.requests import ChatRequest, Sampling
from llmwise.insights.suites import Asked
from llmwise.orchestration.chat import answer
from llmwise.orchestration.settlement import Ledger

UNCOUNTED = Standing(0, 0, 0)
"""What nobody sees in headers."""


def asker(
    services: Services, principal: Principal, conversation_id: str
) -> Callable[[str, str | None, str, int | None], Awaitable[Asked]]:
    """Asks a model by name; budgets and the key's list of models hold as ever, rate limits don't."""
    caller = Caller(principal, UNCOUNTED)

    async def ask(model: str, system: str | None, question: str, max_tokens: int | None) -> Asked:
        request_id = services.new_request_id()
        told = () if system is None else (Message("system", (Text(system),)),)
        request = ChatRequest(
            model=model,
            messages=(*told, Message("user", (Text(question),))),
            sampling=Sampling(temperature=0.0, max_tokens=max_tokens),
            conversation_id=conversation_id,
        )
        ledger: Ledger | None = None
        try:
            request, plan = await planned(services, principal.key, (), request)
            ledger = services.ledger(principal, request_id, request, plan, "native")
            await reserve(services, caller, ledger)
            said = await answer(services.continuity, request, ledger)
        except GatewayError as error:
            record = None if ledger is None else ledger.record
            cost, latency = (0, 0) if record is None else (record.cost_nanousd, record.latency_ms)
            return Asked(request_id, "", f"{error.code}: {error.message}", cost, latency)
        record = ledger.record
        assert record is not None, "an answer has its record"
        return Asked(request_id, said.text or said.refusal or "", None, record.cost_nanousd, record.latency_ms)

    return ask
