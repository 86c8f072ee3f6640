"""Compare, blend and judge with the published Python client, whole and streamed; one line of JSON says what came back.

Like `python_smoke.py`, which says how it is run.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from llmwise import LLMWise

MESSAGES: Any = [{"role": "user", "content": "What is the capital of Australia?"}]
SOURCES = ["gpt-5.2", "claude-sonnet-4.5"]
JUDGE = "gemini-3-flash"

with LLMWise() as client:
    panel = {"models": SOURCES, "messages": MESSAGES}
    contest = {"contestants": SOURCES, "judge": JUDGE, "messages": MESSAGES, "criteria": ["It is true."]}
    found = {
        "client": f"python {version('llmwise')}",
        "compare": client.compare(**panel),
        "compare_stream": list(client.compare_stream(**panel)),
        "blend": client.blend(**panel, strategy="consensus", synthesizer=JUDGE),
        "blend_stream": list(client.blend_stream(**panel, strategy="moa", synthesizer=JUDGE, layers=2)),
        "self_moa": client.blend(models=[JUDGE], messages=MESSAGES, strategy="self_moa", samples=2),
        "judge": client.judge(**contest),
        "judge_stream": list(client.judge_stream(**contest)),
    }
print(json.dumps(found))
