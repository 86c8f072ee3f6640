"""Ours against the recorded facts of the published client: what it looks like, and what it sends."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

import llmwise
from llmwise import AsyncLLMWise, LLMWise

from .conftest import Caller, Serve
from .scripted import DONE, reply, stream

PUBLISHED = json.loads(Path(__file__).with_name("published_api.json").read_text())
CLASSES = {"LLMWise": LLMWise, "AsyncLLMWise": AsyncLLMWise}
METHODS = [(cls, name) for cls in CLASSES for name in PUBLISHED[cls]]
ARRAYS = {"models", "credits_transactions", "credits_packs", "usage_recent"}


def parameters(function: Any) -> dict[str, tuple[Any, ...]]:
    """As recorded: kind, and the default if there is one, by name."""
    return {
        name: (p.kind.name, *([] if p.default is p.empty else [p.default]))
        for name, p in inspect.signature(function).parameters.items()
        if name != "self"
    }


@pytest.mark.parametrize(("cls", "method"), METHODS)
def test_every_published_argument_is_there_with_its_default(cls: str, method: str) -> None:
    theirs = {name: tuple(rest) for name, *rest in PUBLISHED[cls][method]["parameters"]}
    ours = parameters(getattr(CLASSES[cls], method))
    assert {name: ours.get(name) for name in theirs} == theirs
    positional = [name for name, (kind, *_) in theirs.items() if kind == "POSITIONAL_OR_KEYWORD"]
    assert list(ours)[: len(positional)] == positional
    assert all(len(ours[name]) == 2 for name in ours.keys() - theirs.keys()), "what is ours is optional"


@pytest.mark.parametrize("method", [name for name, facts in PUBLISHED["LLMWise"].items() if "calls" in facts])
def test_every_method_sends_what_the_published_one_sends(method: str, caller: Caller, serve: Serve) -> None:
    cls = "LLMWise" if caller.kind == "sync" else "AsyncLLMWise"
    for recorded in PUBLISHED[cls][method]["calls"]:
        streams = method.endswith("_stream")
        server = serve(stream(DONE) if streams else reply("[]" if method in ARRAYS else "{}"))
        (caller.stream if streams else caller.call)(server.url, method, recorded["arguments"])
        (seen,) = server.seen
        url = urlsplit(seen.target)
        assert {
            "method": seen.method,
            "path": url.path.removeprefix("/api/v1"),
            "query": sorted([name, value] for name, value in parse_qsl(url.query)),
            "body": seen.body,
            "accept": seen.headers["accept"],
        } == recorded["request"]
        assert seen.headers["authorization"] == "Bearer mm_sk_x"
        assert seen.headers["user-agent"].startswith("llmwise-python-sdk/")


def test_the_published_names_are_exported() -> None:
    assert set(PUBLISHED["names"]) <= set(llmwise.__all__)
    theirs = {name: tuple(rest) for name, *rest in PUBLISHED["error"]}
    ours = parameters(llmwise.LLMWiseError)
    assert {name: ours[name] for name in theirs} == theirs


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def methods(cls: type) -> dict[str, dict[str, tuple[Any, ...]]]:
        functions = inspect.getmembers(cls, inspect.isfunction)
        return {name.removeprefix("a"): parameters(f) for name, f in functions if not name.startswith("_")}

    def public(cls: type) -> set[str]:
        return {name for name in dir(cls) if not name.startswith("_")}

    assert public(AsyncLLMWise) == public(LLMWise) - {"close"} | {"aclose"}
    assert methods(AsyncLLMWise) == methods(LLMWise)
    assert parameters(AsyncLLMWise) == parameters(LLMWise)


@pytest.mark.parametrize(
    ("method", "arguments", "target", "body"),
    [
        (
            "explain",
            {"messages": [{"role": "user", "content": "x"}], "optimization_goal": "cost"},
            "/api/v1/route/explain",
            {"model": "auto", "messages": [{"role": "user", "content": "x"}], "optimization_goal": "cost"},
        ),
        ("health_targets", {}, "/api/v1/health/targets", None),
    ],
)
def test_what_is_ours_besides(
    method: str, arguments: dict[str, Any], target: str, body: Any, caller: Caller, serve: Serve
) -> None:
    server = serve(reply({"ok": True}))
    assert caller.call(server.url, method, arguments) == {"ok": True}
    assert (server.seen[0].target, server.seen[0].body) == (target, body)
