"""Native bodies to domain requests. Pure."""

from collections.abc import Sequence

from llmwise.domain.errors import Unprocessable
from llmwise.domain.messages import Image, Message, Part, Text, ToolCall, ToolResult
from llmwise.domain.requests import (
    AUTO,
    ChatRequest,
    Goal,
    Passthrough,
    ResponseFormat,
    Routing,
    Sampling,
    Tool,
    ToolChoice,
)
from llmwise.wire import native

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}

OPENAI_FIELDS = frozenset(
    ("messages", "temperature", "max_tokens", "tools", "tool_choice", "response_format", "stop", "top_p", "seed")
)
"""The native fields that are OpenAI's word for word, and may go on as they came."""

MAX_CHAIN = 8


def to_request(body: native.ChatBody, fields: dict[str, bytes] | None = None) -> ChatRequest:
    """`fields` are the body's top-level fields as JSON text, for a provider that speaks OpenAI's format.

    Raises `Unprocessable` for what the types can't say: a message without content, a chain that is too long.
    """
    routing: Routing | None = None
    if body.routing is not None:
        fallback = tuple(dict.fromkeys(body.routing.fallback))
        if len(fallback) > MAX_CHAIN:
            raise Unprocessable(
                f"routing.fallback: {len(fallback)} models; at most {MAX_CHAIN}", param="routing.fallback"
            )
        routing = Routing(fallback, body.routing.strategy)
    goal: Goal | None = body.optimization_goal
    model = body.model
    if body.cost_saver:
        model, goal = AUTO, "cost"
    stop = body.stop
    return ChatRequest(
        model=model,
        messages=messages(body.messages),
        stream=body.stream,
        sampling=Sampling(
            temperature=body.temperature,
            top_p=body.top_p,
            max_tokens=body.max_tokens,
            stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
            seed=body.seed,
        ),
        tools=() if not body.tools else tuple(_tool(tool) for tool in body.tools),
        tool_choice=_tool_choice(body.tool_choice),
        response_format=_response_format(body.response_format),
        routing=routing,
        goal=goal,
        conversation_id=body.conversation_id,
        passthrough=None
        if fields is None
        else Passthrough("openai", {name: text for name, text in fields.items() if name in OPENAI_FIELDS}),
    )


def messages(given: Sequence[native.Message]) -> tuple[Message, ...]:
    return tuple([_message(message, index) for index, message in enumerate(given)])


def _message(message: native.Message, index: int) -> Message:
    content = message.content
    role = ROLES[message.role]
    if type(content) is str and message.tool_calls is None and role != "tool":
        return Message(role, (Text(content),), message.name)  # type: ignore[arg-type]  # a Role by the table
    parts: list[Part] = []
    if isinstance(content, str):
        parts.append(Text(content))
    elif content is not None:
        parts += [_block(block, f"messages[{index}].content[{i}]") for i, block in enumerate(content)]
    if role == "tool":
        if not message.tool_call_id:
            raise Unprocessable(
                f"messages[{index}].tool_call_id: is required in a message of role 'tool'",
                param=f"messages[{index}].tool_call_id",
            )
        result = ToolResult(
            message.tool_call_id, tuple(p for p in parts if isinstance(p, Text | Image)), name=message.name
        )
        return Message("tool", (result,))
    for call in message.tool_calls or ():
        parts.append(ToolCall(call.id, call.function.name, call.function.arguments))
    if not parts:
        raise Unprocessable(
            f"messages[{index}].content: is empty; give text, or blocks of text and images",
            param=f"messages[{index}].content",
        )
    return Message(role, tuple(parts), message.name)  # type: ignore[arg-type]  # a Role by the table


def _block(block: native.Block, where: str) -> Text | Image:
    if isinstance(block, native.TextBlock):
        return Text(block.text)
    return image(block.image_url.url, block.image_url.detail, f"{where}.image_url.url")


def image(url: str, detail: str | None, where: str) -> Image:
    """A data URL is taken apart; any other scheme than http and https is refused. `where` is the field it stands in."""
    if url.startswith("data:"):
        head, comma, data = url[5:].partition(",")
        media_type, *flags = head.split(";")
        if not comma or "base64" not in flags or not media_type.startswith("image/"):
            raise Unprocessable(f"{where}: a data URL must be data:image/TYPE;base64,DATA", param=where)
        return Image(data=data, media_type=media_type, detail=detail)
    if not url.startswith(("http://", "https://")):
        raise Unprocessable(f"{where}: {url[:40]!r} is neither http, https nor a data URL", param=where)
    return Image(url=url, detail=detail)


def _tool(tool: native.Tool) -> Tool:
    function = tool.function
    return Tool(function.name, function.description, function.parameters, function.strict)


def _tool_choice(choice: str | native.ToolChoice | None) -> ToolChoice | None:
    if choice is None:
        return None
    if isinstance(choice, native.ToolChoice):
        return ToolChoice("tool", choice.function.name)
    return ToolChoice(choice)  # type: ignore[arg-type]  # one of the literals, checked when decoded


def _response_format(given: native.ResponseFormat | None) -> ResponseFormat | None:
    if given is None:
        return None
    if given.type == "json_schema":
        if given.json_schema is None:
            raise Unprocessable("response_format.json_schema: is required", param="response_format.json_schema")
        schema = given.json_schema
        return ResponseFormat("json_schema", schema.schema, schema.name, schema.strict)
    return ResponseFormat(given.type)
