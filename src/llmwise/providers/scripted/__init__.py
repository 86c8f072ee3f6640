"""A provider that follows a script, for tests, faults and benchmarks. No model is asked, and every answer says so.

`script` is what it does, as data; `parsing` reads it from TOML or JSON; `answers` makes the answers, with `instances`
for JSON Schemas; `provider` speaks it inside the process, `server` over HTTP in three wire formats (`llmwise mock`).
The server reads and writes those formats by its own code, on purpose: an adapter's mistake is not answered in kind.
"""

from llmwise.providers.scripted.parsing import ScriptError, load_script, parse_script
from llmwise.providers.scripted.provider import ScriptedProvider
from llmwise.providers.scripted.script import Script

__all__ = ["Script", "ScriptError", "ScriptedProvider", "load_script", "parse_script"]
