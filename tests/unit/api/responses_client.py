"""What a client makes of a response's stream, and OpenAI's schemas to hold it to."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

SPEC = Path(__file__).parents[2] / "data" / "wire" / "openai.json"


def read(out: bytes) -> list[dict[str, Any]]:
    """The events of a stream, whose names must be their types and whose numbers must follow each other."""
    found: list[dict[str, Any]] = []
    for frame in out.decode().removesuffix("\n\n").split("\n\n"):
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == len(found)
        found.append(event)
    return found


def assembled(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The output as a client puts it together from deltas; each end must repeat what the deltas said."""
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    items: dict[int, dict[str, Any]] = {}
    closed: dict[int, dict[str, Any]] = {}
    for event in events[2:-1]:
        kind, index = event["type"].removeprefix("response."), event["output_index"]
        if kind == "output_item.added":
            assert index == len(items)
            items[index] = event["item"]
            continue
        item = items[index]
        assert index not in closed
        if kind == "output_item.done":
            assert item["type"] == event["item"]["type"]
            for name, said in item.items():
                if name not in ("status", "phase", "encrypted_content"):
                    assert event["item"][name] == said
            closed[index] = event["item"]
            continue
        assert item["id"] == event["item_id"]
        _grow(item, kind, event)
    assert len(closed) == len(items)
    return [closed[index] for index in sorted(closed)]


def _grow(item: dict[str, Any], kind: str, event: dict[str, Any]) -> None:
    match kind:
        case "content_part.added":
            assert event["content_index"] == len(item["content"])
            item["content"].append(event["part"])
        case "output_text.delta":
            item["content"][event["content_index"]]["text"] += event["delta"]
        case "refusal.delta":
            item["content"][event["content_index"]]["refusal"] += event["delta"]
        case "output_text.annotation.added":
            annotations = item["content"][event["content_index"]]["annotations"]
            assert event["annotation_index"] == len(annotations)
            annotations.append(event["annotation"])
        case "output_text.done":
            assert item["content"][event["content_index"]]["text"] == event["text"]
            item["content"][event["content_index"]]["logprobs"] = event["logprobs"]
        case "refusal.done":
            assert item["content"][event["content_index"]]["refusal"] == event["refusal"]
        case "content_part.done":
            assert item["content"][event["content_index"]] == event["part"]
        case "function_call_arguments.delta":
            item["arguments"] += event["delta"]
        case "function_call_arguments.done":
            assert (item["name"], item["arguments"]) == (event["name"], event["arguments"])
        case "reasoning_summary_part.added":
            assert event["summary_index"] == len(item["summary"])
            item["summary"].append(event["part"])
        case "reasoning_summary_text.delta":
            item["summary"][event["summary_index"]]["text"] += event["delta"]
        case "reasoning_summary_text.done":
            assert item["summary"][event["summary_index"]]["text"] == event["text"]
        case "reasoning_summary_part.done":
            assert item["summary"][event["summary_index"]] == event["part"]
        case _:
            raise AssertionError(f"an event that nobody expects: {kind}")


def valid(value: dict[str, Any]) -> None:
    """`value` is what OpenAI documents: a response, or an event of a stream."""
    name = "Response" if value.get("object") == "response" else _events()[value["type"]]
    _schema(name).validate(value)


@cache
def _schema(name: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({"$ref": f"#/components/schemas/{name}", **_document()})


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(SPEC.read_text())
    return {"components": document["components"]}


@cache
def _events() -> dict[str, str]:
    """The schema of each type of event."""
    return {
        schema["properties"]["type"]["enum"][0]: name
        for name, schema in _document()["components"]["schemas"].items()
        if name.startswith("Response")
        and name.endswith("Event")
        and "enum" in schema.get("properties", {}).get("type", {})
    }
