"""Calls a gateway with the published Python client; one line of JSON says what came back.

Runs in an environment of its own that holds PyPI's `llmwise` 0.1.2 (see clients.py), against the gateway in
LLMWISE_BASE_URL with the key in LLMWISE_API_KEY, both read by the client itself. A refused call of `reads` or
`conversation` is noted as `{"status": ..., "message": ...}`, so that one run shows all that is missing; any
other failure ends with a traceback.

    --model MODEL        for the plain calls (default: auto)
    --primary MODEL      where the routed stream begins; give one that fails to see the failover
    --fallback A,B       where it goes on
    --prompt TEXT
    --read-only          leave out what writes: the conversation, and the calls of models

What this client asks of a gateway, besides what the API's documentation says:

- It closes the connection at `done`, without reading `[DONE]`, where the caller's loop breaks there.
- `httpx.iter_lines` cuts its lines also at U+0085, U+2028 and U+2029. JSON may hold these unescaped; here
  they must be escaped, or the client drops the event without a word.
- An event that isn't JSON is dropped without a word; so is the fact that a stream ended before `[DONE]`.
- A stream whose status is 400 or more raises `httpx.ResponseNotRead`, whatever its body.
- Nothing on the wire for 60 s (one read, not the whole call) is a timeout: streams need a heartbeat.
- Redirects aren't followed, and a 3xx is read as JSON: a path must not depend on a trailing slash.
- It sends `limit`, `offset` and `days` even when they are the defaults, booleans in a query as `true` and
  `false`, and `min_score` as a float.
- PATCH has no body; without a title it has no query either, and still wants an object back.
- Its exception is a frozen dataclass, which breaks in `contextlib`: nothing here raises inside a `with`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from typing import Any

import httpx

from llmwise import AsyncLLMWise, LLMWise, LLMWiseError

# The read-only set that the published clients ship, and the shape each is read as.
READS: dict[str, tuple[dict[str, Any], type]] = {
    "models": ({}, list),
    "credits_balance": ({}, dict),
    "credits_wallet": ({}, dict),
    "credits_transactions": ({}, list),
    "credits_packs": ({}, list),
    "usage_summary": ({"days": 7}, dict),
    "usage_recent": ({"days": 7, "limit": 5}, list),
    "conversations": ({"limit": 5}, dict),
    "history": ({"limit": 10}, dict),
    "keys_info": ({}, dict),
    "memory_list": ({"limit": 5}, dict),
    "memory_search": ({"q": "hello", "top_k": 2, "min_score": 0.25}, dict),
    "optimization_policy": ({}, dict),
    "optimization_report": ({"days": 1}, dict),
    "optimization_snapshots": ({}, dict),
    "optimization_alerts": ({}, dict),
    "optimization_test_templates": ({}, dict),
    "optimization_test_suites": ({}, dict),
    "optimization_test_runs": ({}, dict),
    "optimization_regression_schedules": ({}, dict),
    "settings_keys": ({}, dict),
    "settings_privacy": ({}, dict),
    "settings_copilot_state": ({}, dict),
}


def reads(client: LLMWise) -> dict[str, Any]:
    """For each call the keys of its object, the length of its array, or its refusal."""
    return {method: refusal_or(partial(shape_of, client, method)) for method in READS}


def shape_of(client: LLMWise, method: str) -> list[str] | int:
    arguments, shape = READS[method]
    answer: dict[str, Any] | list[Any] = getattr(client, method)(**arguments)
    assert type(answer) is shape, f"{method}: {type(answer).__name__} instead of {shape.__name__}"
    return len(answer) if isinstance(answer, list) else sorted(answer)


def refusal_or(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except LLMWiseError as error:
        return {"status": error.status_code, "message": error.message}


def streamed(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The guide's loop, which also notes what it skips."""
    found: dict[str, Any] = {"text": "", "events": [], "routes": [], "trace": None, "last_chunk": None, "done": None}
    for ev in events:
        found["events"].append(ev.get("event", "chunk"))
        if ev.get("event") == "route":
            found["routes"].append([ev["model"], ev["status"]])
        if ev.get("event") == "trace":
            found["trace"] = ev
        if ev.get("done"):
            found["last_chunk"] = ev
        if ev.get("event") in {"route", "trace"}:
            continue
        if ev.get("delta"):
            assert ev["model"], "an event with a delta has its model"
            found["text"] += ev["delta"]
        if ev.get("event") == "done":
            found["done"] = ev
            break
    assert found["done"] is not None, "a stream ends with the event done"
    return found


async def asynchronous(model: str, messages: Any) -> dict[str, Any]:
    async with AsyncLLMWise() as client:
        answer = await client.chat(model=model, messages=messages)
        events = [event async for event in client.chat_stream(model=model, messages=messages)]
    return {"chat": answer["content"], "chat_stream": streamed(events)["text"]}


def conversation(client: LLMWise) -> dict[str, Any]:
    made = client.create_conversation()
    client.update_conversation(made["id"], title="smoke")
    client.update_conversation(made["id"])
    got = client.get_conversation(made["id"])
    return {"title": got.get("title"), "deleted": sorted(client.delete_conversation(made["id"]))}


def strangers(model: str, messages: Any) -> dict[str, Any]:
    """What a wrong key meets: in an answer, and in a stream."""
    with LLMWise("mm_sk_" + "0" * 64) as stranger:
        found: dict[str, Any] = refusal_or(lambda: stranger.chat(model=model, messages=messages))
        try:
            next(stranger.chat_stream(model=model, messages=messages))
        except httpx.ResponseNotRead as error:
            found["stream"] = type(error).__name__
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="auto")
    parser.add_argument("--primary", default="gpt-5.2")
    parser.add_argument("--fallback", default="claude-sonnet-4.5,gemini-3-flash")
    parser.add_argument("--prompt", default="Say hello.")
    parser.add_argument("--read-only", action="store_true")
    options = parser.parse_args()
    messages: Any = [{"role": "user", "content": options.prompt}]
    found: dict[str, Any] = {"client": f"python {version('llmwise')}"}
    with LLMWise() as client:
        found["reads"] = reads(client)
        if not options.read_only:
            found["chat"] = client.chat(model=options.model, messages=messages, temperature=0, max_tokens=64)
            found["chat_stream"] = streamed(client.chat_stream(model=options.model, messages=messages))
            routing: Any = {"strategy": "rate-limit", "fallback": options.fallback.split(",")}
            found["routed_stream"] = streamed(
                client.chat_stream(model=options.primary, routing=routing, messages=messages)
            )
            found["conversation"] = refusal_or(lambda: conversation(client))
            found["history_total"] = client.history()["total"]
            found["usage_recent"] = len(client.usage_recent())
    if not options.read_only:
        found["async"] = asyncio.run(asynchronous(options.model, messages))
        found["refusal"] = strangers(options.model, messages)
    json.dump(found, sys.stdout)
    print()


if __name__ == "__main__":
    main()
