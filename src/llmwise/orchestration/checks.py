"""Was the answer what was asked for? Decided when it is settled, from what passed by; nothing of it is kept but this.

Only for requests that asked for a form (JSON, tools) or whose answer was refused or cut short: a few microseconds, and
the JSON Schema of a request is compiled once.
"""

from collections.abc import Sequence

from llmwise.domain.events import Finished, ToolCallDelta
from llmwise.domain.plan import Checks
from llmwise.domain.requests import ChatRequest, Request, Tool
from llmwise.wire.validity import Unusable, is_json, mismatch

MAX_CHECKED_CHARS = 1 << 20
"""A longer answer is not looked into: its request waits for this."""


def checks(
    request: Request, text: str, calls: Sequence[ToolCallDelta], finish: Finished | None, *, refused: bool
) -> Checks | None:
    """`calls` are the fragments of tool calls as they came. `None`: there is nothing to say."""
    if not isinstance(request, ChatRequest) or finish is None:
        return None
    found = Checks(
        json=has_form(request, text) if not calls and not refused else None,
        tools=_tools(request.tools, calls) if calls and request.tools else None,
        refused=refused or finish.reason == "content_filter",
        truncated=finish.reason == "length",
    )
    return found if found != Checks() else None


def has_form(request: ChatRequest, text: str) -> bool | None:
    """Whether a text is the JSON that was asked for; `None`: none was, or it is too long to look into."""
    wanted = request.response_format
    if wanted is None or wanted.kind == "text" or len(text) > MAX_CHECKED_CHARS:
        return None
    try:
        return is_json(text) if wanted.schema is None else mismatch(text, wanted.schema) is None
    except Unusable:  # a schema of a dialect that the provider knows and we don't
        return is_json(text)


def _tools(tools: Sequence[Tool], calls: Sequence[ToolCallDelta]) -> bool | None:
    """Whether every call names a tool that was offered, with arguments of its schema. Free text (custom tools) has
    none."""
    offered = {tool.name: tool for tool in tools}
    arguments: dict[int, list[str]] = {}
    names: dict[int, str] = {}
    for call in calls:
        if call.custom:
            return None
        arguments.setdefault(call.index, []).append(call.arguments)
        if call.name:
            names[call.index] = call.name
    return all(_fits(offered.get(names.get(index, "")), "".join(said)) for index, said in arguments.items())


def _fits(tool: Tool | None, arguments: str) -> bool:
    if tool is None:
        return False
    text = arguments or "{}"
    try:
        return is_json(text) if tool.parameters is None else mismatch(text, tool.parameters) is None
    except Unusable:
        return is_json(text)
