# ruff: noqa: I001
# fmt: off
# The block "After (LLMWise SDK)" of the guide "How to Migrate from OpenAI to a Multi-Model Architecture" (2026-02-13),
# word for word; only this comment is ours.

import os
from llmwise import LLMWise

client = LLMWise(os.environ["LLMWISE_API_KEY"])  # Your LLMWise API key

response = client.chat(
    model="gpt-5.2",  # Or any supported model, or "auto"
    messages=[{"role": "user", "content": "Summarize this document..."}],
)
print(response["content"])
