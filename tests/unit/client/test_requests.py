"""Where a call goes, and what it carries."""

from __future__ import annotations

import httpx
import pytest

from llmwise import LLMWise
from llmwise.client._requests import Call, Settings, fields, segment

from .conftest import Caller, Serve
from .scripted import reply


def root(base_url: str | None) -> str:
    return Settings.resolve(None, base_url, max_retries=0, raise_on_error=True).root


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("http://gateway:8080", "http://gateway:8080/api/v1"),
        ("http://gateway:8080/", "http://gateway:8080/api/v1"),
        (" http://gateway:8080/api/v1// ", "http://gateway:8080/api/v1"),
        ("http://gateway:8080/compat", "http://gateway:8080/compat/api/v1"),
        ("https://host/any/prefix/api/v1", "https://host/any/prefix/api/v1"),
        (None, "http://127.0.0.1:8080/api/v1"),
        ("  ", "http://127.0.0.1:8080/api/v1"),
    ],
)
def test_the_api_path_is_appended_where_it_is_missing(
    base_url: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLMWISE_BASE_URL", raising=False)
    assert root(base_url) == expected


def test_a_base_url_without_its_scheme_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="must start with http"):
        LLMWise("k", "gateway:8080")


def test_key_and_base_url_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    server = serve(reply([]))
    monkeypatch.setenv("LLMWISE_API_KEY", " mm_sk_env\n")
    monkeypatch.setenv("LLMWISE_BASE_URL", server.url + "/prefix/")
    with LLMWise() as client:
        client.models()
        assert client.api_key == "mm_sk_env"
    with LLMWise("mm_sk_given") as client:
        client.models()
    assert [seen.target for seen in server.seen] == ["/prefix/api/v1/models"] * 2
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer mm_sk_env", "Bearer mm_sk_given"]


def test_without_a_key_no_authorization_is_sent(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    monkeypatch.delenv("LLMWISE_API_KEY", raising=False)
    server = serve(reply([]))
    with LLMWise(base_url=server.url) as client:
        client.models()
    assert "authorization" not in server.seen[0].headers


def test_the_seed_guides_first_call_works_as_written(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    server = serve(reply({"content": "a summary"}))
    monkeypatch.setenv("LLMWISE_API_KEY", "mm_sk_env")
    monkeypatch.setenv("LLMWISE_BASE_URL", server.url)
    import os

    from llmwise import LLMWise

    client = LLMWise(os.environ["LLMWISE_API_KEY"])
    response = client.chat(
        model="gpt-5.2",
        messages=[{"role": "user", "content": "Summarize this document..."}],
    )
    assert response["content"] == "a summary"
    client.close()
    assert server.seen[0].body == {
        "model": "gpt-5.2",
        "messages": [{"role": "user", "content": "Summarize this document..."}],
        "stream": False,
    }


def test_fields_leave_out_none_and_keep_false_and_zero() -> None:
    assert fields({"self": 1, "a": None, "b": False, "c": 0, "temperature": 1, "models": ("m",)}) == {
        "b": False,
        "c": 0,
        "temperature": 1.0,
        "models": ["m"],
    }


def test_extra_fields_are_laid_over_the_named_ones(caller: Caller, serve: Serve) -> None:
    server = serve(reply())
    arguments = {"model": "m", "messages": [], "max_tokens": 5, "extra": {"hold": {"tokens": 8}, "max_tokens": 6}}
    caller.call(server.url, "chat", arguments)
    assert server.seen[0].body == {
        "model": "m",
        "messages": [],
        "stream": False,
        "max_tokens": 6,
        "hold": {"tokens": 8},
    }


@pytest.mark.parametrize("identifier", ["", ".", ".."])
def test_an_id_that_names_another_path_is_refused(identifier: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        segment(identifier)


def test_an_id_cannot_leave_its_segment(caller: Caller, serve: Serve) -> None:
    server = serve(reply())
    caller.call(server.url, "memory_delete", {"memory_id": "../keys/revoke?x=1#y"})
    assert server.seen[0].target == "/api/v1/memory/..%2Fkeys%2Frevoke%3Fx%3D1%23y"


def test_an_httpx_client_of_the_callers_keeps_its_base_url_and_authorization() -> None:
    settings = Settings.resolve("mm_sk_x", "http://ours", max_retries=0, raise_on_error=True)
    call = Call("GET", "/models")
    with httpx.Client() as bare:
        request = call.request(bare, settings)
        assert str(request.url) == "http://ours/api/v1/models"
        assert request.headers["authorization"] == "Bearer mm_sk_x"
    with httpx.Client(base_url="http://theirs/api/v1", headers={"Authorization": "Bearer theirs"}) as own:
        request = call.request(own, settings)
        assert str(request.url) == "http://theirs/api/v1/models"
        assert request.headers["authorization"] == "Bearer theirs"


def test_a_stream_is_not_asked_for_by_flag(caller: Caller, serve: Serve) -> None:
    with pytest.raises(ValueError, match=r"use chat_stream\(\.\.\.\)"):
        caller.call(serve(reply()).url, "chat", {"model": "m", "messages": [], "stream": True})
