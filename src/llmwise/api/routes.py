"""The route table, and nothing else: what is served, to whom, by which handler. What is not here is not served."""

from llmwise.api import operations
from llmwise.api.anthropic import messages as anthropic
from llmwise.api.anthropic.translate import CountBody, MessagesBody
from llmwise.api.frame import Route
from llmwise.api.native import chat, compare, keys, models, usage
from llmwise.api.openai import chat as openai
from llmwise.api.openai.translate import ChatBody as OpenAIChatBody
from llmwise.wire import anthropic as anthropic_wire
from llmwise.wire import native
from llmwise.wire import openai as openai_wire

NATIVE = "/api/v1"

ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        f"{NATIVE}/chat",
        "One question to one model, a chain or Auto; streamed unless `stream` is false.",
        native.ChatAnswer,
        hot=chat.chat,
        work="chat",
        body=native.ChatBody,
        stream=True,
    ),
    Route(
        "POST",
        f"{NATIVE}/compare",
        "One question to 2 to 9 models at once; streamed unless `stream` is false.",
        native.CompareAnswer,
        hot=compare.compare,
        work="compare",
        body=native.CompareBody,
        stream=True,
    ),
    Route("GET", f"{NATIVE}/models", "The models on offer.", list[models.ModelRow], models.list_models),
    Route(
        "POST",
        f"{NATIVE}/route/explain",
        "The decision that /chat would take now, with its reasons; no model is called.",
        models.Explanation,
        models.explain,
        body=native.ChatBody,
    ),
    Route("GET", f"{NATIVE}/health/targets", "Circuits and health of all targets.", models.Targets, models.targets),
    Route("GET", f"{NATIVE}/history", "Settled requests.", usage.History, usage.history, query=usage.HistoryQuery),
    Route(
        "GET",
        f"{NATIVE}/history/{{request_id}}",
        "One request and its attempts.",
        usage.HistoryDetail,
        usage.history_item,
    ),
    Route("GET", f"{NATIVE}/usage/summary", "Sums over days.", usage.Summary, usage.summary, query=usage.SummaryQuery),
    Route(
        "GET",
        f"{NATIVE}/usage/recent",
        "Settled requests of the last days, without their texts.",
        list[usage.HistoryItem],
        usage.recent,
        query=usage.RecentQuery,
    ),
    Route("GET", f"{NATIVE}/keys/info", "The caller's own key.", keys.KeyInfo, keys.info),
    Route(
        "POST",
        f"{NATIVE}/keys/generate",
        "Make a key; it is shown this once.",
        keys.Generated,
        keys.generate,
        access="admin",
        body=keys.GenerateBody,
        body_optional=True,
    ),
    Route(
        "DELETE",
        f"{NATIVE}/keys/revoke",
        "Revoke the caller's own key, or, for administrators, the one named.",
        keys.KeyInfo,
        keys.revoke,
        query=keys.RevokeQuery,
    ),
    Route(
        "POST",
        "/v1/chat/completions",
        "OpenAI's chat completions, to any model.",
        openai_wire.Completion,
        hot=openai.chat_completions,
        work="chat",
        body=OpenAIChatBody,
        stream=True,
        dialect="openai",
    ),
    Route(
        "GET",
        "/v1/models",
        "The models on offer, as OpenAI lists them.",
        openai.ModelList,
        openai.list_models,
        dialect="openai",
    ),
    Route(
        "POST",
        "/v1/messages",
        "Anthropic's messages, to any model.",
        anthropic_wire.Message,
        hot=anthropic.messages,
        work="chat",
        body=MessagesBody,
        stream=True,
        dialect="anthropic",
    ),
    Route(
        "POST",
        "/v1/messages/count_tokens",
        "About how many tokens a request has; no model is called.",
        anthropic.TokenCount,
        hot=anthropic.count_tokens,
        body=CountBody,
        dialect="anthropic",
    ),
    Route(
        "GET",
        "/healthz",
        "The process serves.",
        operations.Alive,
        operations.healthz,
        access="open",
        dialect="operations",
    ),
    Route(
        "GET",
        "/readyz",
        "The gateway can do its work.",
        operations.Ready,
        operations.readyz,
        access="open",
        dialect="operations",
    ),
    Route(
        "GET", "/metrics", "Prometheus metrics.", "text/plain", operations.metrics, access="open", dialect="operations"
    ),
)

PLANNED: tuple[str, ...] = (
    "blend",
    "judge",
    "conversations",
    "credits",
    "memory",
    "optimization",
    "settings",
)
"""Parts of the native API that are not built yet: below them everything answers 501 `not_implemented`."""
