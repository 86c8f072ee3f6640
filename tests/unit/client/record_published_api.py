"""Writes `published_api.json`: what the published Python client looks like, and what it sends.

Run it with the Python of an environment that holds the published client, not with ours:

    python tests/e2e/published/clients.py          # prints where that environment is
    <its python> tests/unit/client/record_published_api.py > tests/unit/client/published_api.json

For each public method of both classes it records the parameters (by introspection), and the requests that
two calls make (by answering them in the process): one with the required arguments only, one with all.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from importlib.metadata import version
from typing import Any

import httpx

import llmwise

ROOT = "http://gateway/api/v1"
SAMPLES: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Grüße"}],
    "models": ["m1", "m2"],
    "contestants": ["m1", "m2"],
    "criteria": ["accuracy"],
    "routing": {"fallback": ["m2"], "strategy": "rate-limit"},
    "payload": {"name": "n", "none": None},
    "keys": {"openai": "sk-x"},
    "checklist": {"first": True},
    "context": {"page": "p"},
    "bool": True,
    "int": 5,
    "float": 1,  # the client makes it 1.0
    "str": "a b/ü",
}


def sample(name: str, annotation: str) -> Any:
    """A value for a parameter; no slash where it becomes a part of the path, which the client doesn't quote."""
    if name.endswith("_id") or name == "provider":
        return "id1"
    return SAMPLES[name] if name in SAMPLES else SAMPLES[annotation.split(" ")[0]]


def arguments(signature: inspect.Signature, everything: bool) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if name in ("self", "stream") or (parameter.default is not parameter.empty and not everything):
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            given |= {"utm_source": "s"} if everything else {}
        else:
            given[name] = sample(name, str(parameter.annotation))
    return given


def request_of(cls: type, method: str, given: dict[str, Any]) -> dict[str, Any]:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        arrays = ("/models", "/credits/transactions", "/credits/packs", "/usage/recent")
        if request.headers["accept"] == "text/event-stream":
            return httpx.Response(200, text="data: [DONE]\n\n")
        return httpx.Response(200, json=[] if request.url.path.endswith(arrays) else {})

    async def run() -> None:
        result = getattr(client, method)(**given)
        if inspect.isawaitable(result):
            await result
        elif hasattr(result, "__aiter__"):
            async for _ in result:
                pass
        elif inspect.isgenerator(result):
            list(result)

    http: Any = httpx.AsyncClient if cls is llmwise.AsyncLLMWise else httpx.Client
    client = cls("mm_sk_x", client=http(base_url=ROOT, transport=httpx.MockTransport(answer)))
    asyncio.run(run())
    (request,) = seen
    return {
        "method": request.method,
        "path": request.url.path.removeprefix("/api/v1"),
        "query": sorted(request.url.params.multi_items()),
        "body": json.loads(request.content) if request.content else None,
        "accept": request.headers["accept"],
    }


def parameters(signature: inspect.Signature) -> list[list[Any]]:
    return [
        [name, p.kind.name, *([] if p.default is p.empty else [p.default])]
        for name, p in signature.parameters.items()
        if name != "self"
    ]


def facts(cls: type) -> dict[str, Any]:
    methods: dict[str, dict[str, Any]] = {}
    for name, function in sorted(inspect.getmembers(cls, inspect.isfunction)):
        signature = inspect.signature(function)
        methods[name] = {"parameters": parameters(signature)}
        if not name.startswith("_") and name not in ("close", "aclose"):
            required, all_given = arguments(signature, False), arguments(signature, True)
            methods[name]["calls"] = [
                {"arguments": given, "request": request_of(cls, name, given)}
                for given in ([required] if required == all_given else [required, all_given])
            ]
    return {name: fact for name, fact in methods.items() if not name.startswith("_") or name == "__init__"}


def main() -> None:
    classes = {cls.__name__: facts(cls) for cls in (llmwise.LLMWise, llmwise.AsyncLLMWise)}
    error = inspect.signature(llmwise.LLMWiseError)
    print('{"note": "Written by record_published_api.py; not by hand.",')
    print(f'"version": "{version("llmwise")}", "names": {json.dumps(llmwise.__all__)},')
    print(f'"error": {json.dumps(parameters(error))},')
    for last, (cls, methods) in zip((False, True), classes.items(), strict=True):
        lines = ",\n".join(f"  {json.dumps(n)}: {json.dumps(m, ensure_ascii=False)}" for n, m in methods.items())
        print(f'"{cls}": {{\n{lines}\n}}{"}" if last else ","}')


if __name__ == "__main__":
    main()
