"""The guide's two code blocks, as they are printed there, with our SDK: only key and base URL, from the environment."""

import subprocess
import sys
from pathlib import Path

import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, environment, play

GUIDE = Path(__file__).parent / "guide"
DOWN = {"fault": "status", "status": 503}


def run(block: str, gateway: Gateway) -> str:
    """What the block prints."""
    variables = environment(LLMWISE_API_KEY=gateway.key or "", LLMWISE_BASE_URL=gateway.url)
    done = subprocess.run(
        [sys.executable, str(GUIDE / block)], env=variables, capture_output=True, text=True, timeout=40
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_block_after_migration_prints_the_answer(gateway: Gateway, mock: ScriptedServer) -> None:
    play(mock, models={"gpt-5.2": {"text": "A summary: Grüße 🦉"}})
    assert run("after.py", gateway) == "A summary: Grüße 🦉\n"
    (entry,) = mock.requests
    assert entry.json["messages"] == [{"role": "user", "content": "Summarize this document..."}]
    assert not entry.stream


@pytest.mark.parametrize(
    ("down", "answers"),
    [
        ((), "gpt-5.2"),
        (("gpt-5.2",), "claude-sonnet-4-5"),
        (("gpt-5.2", "claude-sonnet-4-5"), "gemini-3-flash-preview"),
    ],
    ids=["nothing-fails", "one-fails", "two-fail"],
)
def test_the_mesh_block_prints_the_answer_of_the_first_model_that_has_one(
    gateway: Gateway, mock: ScriptedServer, down: tuple[str, ...], answers: str
) -> None:
    text = "An analysis.\nIn two lines."
    play(mock, *({"model": name, **DOWN} for name in down), models={answers: {"text": text}})
    assert run("mesh.py", gateway) == text
    assert [entry.model for entry in mock.requests] == [*down, answers]
    assert all(entry.stream for entry in mock.requests)
