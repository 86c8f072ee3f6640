"""`llmwise chat`: ask a running gateway; the answer streams, and every step of the route is shown."""

import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from llmwise.cli.failing import fail
from llmwise.cli.remote import DEFAULT_URL, KeyOption, UrlOption, gateway
from llmwise.cli.tables import cell
from llmwise.cli.terminal import say

MARKS = {
    "trying": "[dim]…[/dim]",
    "failed": "[red]✗[/red]",
    "skipped": "[yellow]↷[/yellow]",
    "success": "[green]✓[/green]",
}


def chat(
    question: Annotated[str | None, typer.Argument(help="What to ask; without it, standard input.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="A model, or `auto`.")] = "auto",
    fallback: Annotated[list[str] | None, typer.Option("--fallback", "-f", help="Then this one; repeatable.")] = None,
    strategy: Annotated[str, typer.Option(help="rate-limit, latency, cost or round-robin.")] = "rate-limit",
    system: Annotated[str | None, typer.Option("--system", "-s", help="A system message.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
) -> None:
    """Ask one question. The answer goes to stdout, the route and the account to stderr."""
    text = question if question is not None else sys.stdin.read()
    if not text.strip():
        fail("nothing to ask: give a question, or pipe one in")
    messages = [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": text}]
    notes = Console(stderr=True, highlight=False)
    options: dict[str, Any] = {}
    if fallback:
        options["routing"] = {"fallback": fallback, "strategy": strategy}
    if max_tokens is not None:
        options["max_tokens"] = max_tokens
    last: dict[str, Any] = {}
    with gateway(url, key) as client:
        for event in client.chat_stream(model=model, messages=messages, **options):
            if event.get("event") == "route":
                why = event.get("error") or event.get("reason") or ""
                took = f" {event['latency_ms']} ms" if event.get("latency_ms") is not None else ""
                step = f"{MARKS[event['status']]} {event['model']} {event['status']}{took} "
                notes.print(step, cell(why, "dim"), sep="")
            if event.get("delta"):
                say(event["delta"])
            if event.get("done"):
                last |= event
            if event.get("event") == "done":
                last |= event
    say("\n")
    cost = last.get("cost")
    notes.print(
        f"[dim]{last.get('resolved_model')} · first token {last.get('ttft_ms')} ms · "
        f"{last.get('prompt_tokens')} + {last.get('completion_tokens')} tokens · "
        f"{'cost not known' if cost is None else f'${cost:.6f}'}[/dim]"
    )
    for warning in last.get("warnings") or ():
        notes.print(cell(f"{warning['field']}: {warning['message']}", "yellow"))
