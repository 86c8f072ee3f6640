# ruff: noqa: I001
# fmt: off
# The block "Mesh mode" of the guide "How to Migrate from OpenAI to a Multi-Model Architecture" (2026-02-13), word for
# word. It goes on from the client of the block before; the lines up to the mark and this comment stand for that.
import os
from llmwise import LLMWise

client = LLMWise(os.environ["LLMWISE_API_KEY"])

# --- the block ---

# Mesh mode: fail over across models by providing a fallback chain
for ev in client.chat_stream(
    model="gpt-5.2",
    routing={"strategy": "rate-limit", "fallback": ["claude-sonnet-4.5", "gemini-3-flash"]},
    messages=[{"role": "user", "content": "Analyze this data..."}],
):
    # Route + trace events are emitted when failover triggers
    if ev.get("event") in {"route", "trace"}:
        continue
    if ev.get("delta"):
        print(ev["delta"], end="", flush=True)
    if ev.get("event") == "done":
        break
