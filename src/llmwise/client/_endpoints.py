"""Every method of both clients, written once.

Law: an argument has the name of the field that it becomes, in the body or in the query, and an argument
that is None isn't sent. So a method is its signature and its path, and `locals()` is its body.

A client says what a call turns into by naming four types: `Answer` for the sync client, a coroutine of
`Answer` for the async one, and so on. Names, order and defaults are those of the published clients
(PyPI `llmwise` 0.1.2), and `tests/unit/client/published_api.json` holds us to them; what is ours comes
after theirs.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Self, TypeVar

import httpx

from llmwise.client._requests import Call, Settings, delete, event_stream, fields, get, post, put, segment, whole_answer
from llmwise.client.shapes import MessageLike, RoutingLike

ObjectT = TypeVar("ObjectT")
ArrayT = TypeVar("ArrayT")
TextT = TypeVar("TextT")
StreamT = TypeVar("StreamT")


class Endpoints(ABC, Generic[ObjectT, ArrayT, TextT, StreamT]):
    """The native API. Every method can raise the errors of `llmwise.client.errors`."""

    _settings: Settings

    @property
    def api_key(self) -> str | None:
        """The key that is sent."""
        return self._settings.key

    def with_options(
        self,
        *,
        timeout: float | httpx.Timeout | None = None,
        max_retries: int | None = None,
        raise_on_error: bool | None = None,
    ) -> Self:
        """The same client, on the same connections, with other settings; None leaves one as it is.

        For one call: `client.with_options(timeout=300).judge(...)`. Closing either closes both.
        """
        other = copy.copy(self)
        other._settings = self._settings.but(timeout=timeout, max_retries=max_retries, raise_on_error=raise_on_error)
        return other

    @abstractmethod
    def _object(self, call: Call) -> ObjectT: ...

    @abstractmethod
    def _array(self, call: Call) -> ArrayT: ...

    @abstractmethod
    def _text(self, call: Call) -> TextT: ...

    @abstractmethod
    def _stream(self, call: Call) -> StreamT: ...

    # Calls of models

    def chat(
        self,
        *,
        model: str,
        messages: Sequence[MessageLike],
        stream: bool = False,
        temperature: float | None = None,
        max_tokens: int | None = None,
        cost_saver: bool | None = None,
        optimization_goal: str | None = None,
        semantic_memory: bool | None = None,
        semantic_top_k: int | None = None,
        semantic_min_score: float | None = None,
        routing: RoutingLike | None = None,
        conversation_id: str | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        response_format: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ObjectT:
        """One answer from one model: `answer["content"]`, and the other keys of `ChatAnswer`.

        `model`               a catalog id, an alias, or `auto`.
        `routing`             the models to fall back to: `{"fallback": [...], "strategy": "rate-limit"}`.
        `cost_saver`          True is `model="auto"` with the goal `cost`.
        `optimization_goal`   of `auto`: `balanced`, `latency`, `cost` or `reliability`.
        `semantic_memory`     True puts what is remembered of earlier conversations before this one: up to
                              `semantic_top_k` (1 to 12) pieces that score `semantic_min_score` (0 to 1).
        `conversation_id`     appends the turn to that conversation.
        `tools`, `tool_choice`, `response_format`, `stop`, `top_p`, `seed`: in OpenAI's shape.
        `extra`               fields that this version doesn't name; they win over those it does.
        `stream`              kept from the published client; True raises `ValueError`.
        """
        return self._object(whole_answer("/chat", locals()))

    def chat_stream(
        self,
        *,
        model: str,
        messages: Sequence[MessageLike],
        temperature: float | None = None,
        max_tokens: int | None = None,
        cost_saver: bool | None = None,
        optimization_goal: str | None = None,
        semantic_memory: bool | None = None,
        semantic_top_k: int | None = None,
        semantic_min_score: float | None = None,
        routing: RoutingLike | None = None,
        conversation_id: str | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        response_format: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StreamT:
        """`chat` in pieces: an iterator of events, described by `StreamEvent`.

        The request is sent when the first event is asked for. Print each `event["delta"]`; the event
        `done` carries the charges and is the last one. With `routing`, `route` and `trace` events tell
        which models were tried. Leaving the loop early closes the connection, which ends the generation.
        """
        return self._stream(event_stream("/chat", locals()))

    def compare(
        self,
        *,
        models: Sequence[str],
        messages: Sequence[MessageLike],
        stream: bool = False,
        temperature: float | None = None,
        max_tokens: int | None = None,
        semantic_memory: bool | None = None,
        semantic_top_k: int | None = None,
        semantic_min_score: float | None = None,
        conversation_id: str | None = None,
        fallback: Mapping[str, Sequence[str]] | None = None,
        source_timeout_s: float | None = None,
        min_sources: int | None = None,
        max_cost: float | None = None,
        dry_run: bool | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ObjectT:
        """The same messages to 2 to 9 models at once: `answer["responses"]`, one per model, and a `summary`.

        A model that fails has an `error` in its place; the call fails only if fewer than `min_sources` (1) answer.

        `fallback`          for a model, those that are tried in its place: `{"gpt-5.2": ["deepseek-v3"]}`.
        `source_timeout_s`  how long one model may take.
        `max_cost`          in US dollars; models wait, or are not asked, while there is no room for them.
        `dry_run`           asks no model and answers what it will cost: `least`, `likely` and `calls`.
        """
        return self._object(whole_answer("/compare", locals()))

    def compare_stream(
        self,
        *,
        models: Sequence[str],
        messages: Sequence[MessageLike],
        temperature: float | None = None,
        max_tokens: int | None = None,
        semantic_memory: bool | None = None,
        semantic_top_k: int | None = None,
        semantic_min_score: float | None = None,
        conversation_id: str | None = None,
        fallback: Mapping[str, Sequence[str]] | None = None,
        source_timeout_s: float | None = None,
        min_sources: int | None = None,
        max_cost: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StreamT:
        """`compare` in pieces: chunks of all models interleaved, each with its `model`; then `summary`."""
        return self._stream(event_stream("/compare", locals()))

    def blend(
        self,
        *,
        models: Sequence[str],
        messages: Sequence[MessageLike],
        stream: bool = False,
        temperature: float | None = None,
        max_tokens: int | None = None,
        semantic_memory: bool | None = None,
        semantic_top_k: int | None = None,
        semantic_min_score: float | None = None,
        strategy: str | None = None,
        synthesizer: str | None = None,
        layers: int | None = None,
        samples: int | None = None,
        conversation_id: str | None = None,
        fallback: Mapping[str, Sequence[str]] | None = None,
        source_timeout_s: float | None = None,
        min_sources: int | None = None,
        max_cost: float | None = None,
        dry_run: bool | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ObjectT:
        """One answer made from those of 2 to 6 models: `answer["content"]`.

        `strategy`      `consensus` (default), `council`, `best_of`, `chain`, `moa`, or `self_moa`, which
                        takes exactly one model.
        `synthesizer`   the model that writes the answer.
        `layers`        of `moa`, 1 to 3.
        `samples`       of `self_moa`, 2 to 8.

        The last five arguments are as in `compare`.
        """
        return self._object(whole_answer("/blend", locals()))

    def blend_stream(
        self,
        *,
        models: Sequence[str],
        messages: Sequence[MessageLike],
        temperature: float | None = None,
        max_tokens: int | None = None,
        semantic_memory: bool | None = None,
        semantic_top_k: int | None = None,
        semantic_min_score: float | None = None,
        strategy: str | None = None,
        synthesizer: str | None = None,
        layers: int | None = None,
        samples: int | None = None,
        conversation_id: str | None = None,
        fallback: Mapping[str, Sequence[str]] | None = None,
        source_timeout_s: float | None = None,
        min_sources: int | None = None,
        max_cost: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StreamT:
        """`blend` in pieces: a `source` event per model, `synthesizing`, then chunks of the synthesis."""
        return self._stream(event_stream("/blend", locals()))

    def judge(
        self,
        *,
        contestants: Sequence[str],
        judge: str,
        messages: Sequence[MessageLike],
        stream: bool = False,
        temperature: float | None = None,
        max_tokens: int | None = None,
        semantic_memory: bool | None = None,
        semantic_top_k: int | None = None,
        semantic_min_score: float | None = None,
        criteria: Sequence[str] | None = None,
        conversation_id: str | None = None,
        fallback: Mapping[str, Sequence[str]] | None = None,
        source_timeout_s: float | None = None,
        min_sources: int | None = None,
        max_cost: float | None = None,
        dry_run: bool | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ObjectT:
        """2 to 4 models answer, one that isn't among them judges: `verdict` and `winner_response`.

        The last five arguments are as in `compare`.
        """
        return self._object(whole_answer("/judge", locals()))

    def judge_stream(
        self,
        *,
        contestants: Sequence[str],
        judge: str,
        messages: Sequence[MessageLike],
        temperature: float | None = None,
        max_tokens: int | None = None,
        semantic_memory: bool | None = None,
        semantic_top_k: int | None = None,
        semantic_min_score: float | None = None,
        criteria: Sequence[str] | None = None,
        conversation_id: str | None = None,
        fallback: Mapping[str, Sequence[str]] | None = None,
        source_timeout_s: float | None = None,
        min_sources: int | None = None,
        max_cost: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StreamT:
        """`judge` in pieces: chunks of the contestants, then one `verdict` event."""
        return self._stream(event_stream("/judge", locals()))

    def explain(
        self,
        *,
        messages: Sequence[MessageLike],
        model: str = "auto",
        max_tokens: int | None = None,
        cost_saver: bool | None = None,
        optimization_goal: str | None = None,
        routing: RoutingLike | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        response_format: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ObjectT:
        """Where `chat` would send this, and why: candidates, scores, exclusions. Calls no model."""
        return self._object(post("/route/explain", fields(locals())))

    def models(self) -> ArrayT:
        """The catalog: id, provider, capabilities and prices of each model."""
        return self._array(get("/models"))

    def health_targets(self) -> ObjectT:
        """State of the circuit breaker, and recent health, of each target."""
        return self._object(get("/health/targets"))

    # Conversations and history

    def conversations(self, *, limit: int = 20, offset: int = 0) -> ObjectT:
        return self._object(get("/conversations", fields(locals())))

    def get_conversation(self, conversation_id: str) -> ObjectT:
        return self._object(get(f"/conversations/{segment(conversation_id)}"))

    def create_conversation(self) -> ObjectT:
        """A new conversation; its `id` is what `conversation_id` takes."""
        return self._object(post("/conversations"))

    def update_conversation(self, conversation_id: str, *, title: str | None = None) -> ObjectT:
        query = {} if title is None else {"title": title}
        return self._object(Call("PATCH", f"/conversations/{segment(conversation_id)}", query))

    def delete_conversation(self, conversation_id: str) -> ObjectT:
        return self._object(delete(f"/conversations/{segment(conversation_id)}"))

    def history(
        self, *, limit: int = 20, offset: int = 0, mode: str | None = None, search: str | None = None
    ) -> ObjectT:
        """Past requests; `mode` is `chat`, `compare`, `blend` or `judge`."""
        return self._object(get("/history", fields(locals())))

    def get_history_detail(self, request_id: str) -> ObjectT:
        return self._object(get(f"/history/{segment(request_id)}"))

    # Credits: 100 are one US dollar

    def credits_balance(self) -> ObjectT:
        return self._object(get("/credits/balance"))

    def credits_wallet(self) -> ObjectT:
        return self._object(get("/credits/wallet"))

    def credits_transactions(self, *, limit: int = 50, offset: int = 0) -> ArrayT:
        return self._array(get("/credits/transactions", fields(locals())))

    def credits_packs(self) -> ArrayT:
        return self._array(get("/credits/packs"))

    def credits_purchase(self, amount_usd: float | None = None, pack_id: str | None = None, **tracking: str) -> ObjectT:
        """Buy for an amount, or a pack; `tracking` is sent along as it is."""
        amount = None if amount_usd is None else float(amount_usd)
        return self._object(post("/credits/purchase", fields({"amount_usd": amount, "pack_id": pack_id}) | tracking))

    def credits_confirm_checkout(self, *, session_id: str) -> ObjectT:
        return self._object(post("/credits/confirm-checkout", fields(locals())))

    def credits_update_auto_topup(
        self,
        *,
        enabled: bool,
        threshold_credits: int = 300,
        amount_usd: int = 10,
        monthly_cap_usd: int = 200,
    ) -> ObjectT:
        return self._object(put("/credits/auto-topup", fields(locals())))

    # Usage

    def usage_summary(self, *, days: int = 7) -> ObjectT:
        return self._object(get("/usage/summary", fields(locals())))

    def usage_recent(self, *, limit: int = 20, offset: int = 0, days: int = 30, mode: str | None = None) -> ArrayT:
        return self._array(get("/usage/recent", fields(locals())))

    # The key in use

    def keys_info(self) -> ObjectT:
        return self._object(get("/keys/info"))

    def generate_api_key(self) -> ObjectT:
        """A new key, in clear this once; needs an administrator's key."""
        return self._object(post("/keys/generate"))

    def revoke_api_key(self) -> ObjectT:
        """Revoke the key that this call is made with."""
        return self._object(delete("/keys/revoke"))

    # Semantic memory

    def memory_list(self, *, limit: int = 20) -> ObjectT:
        return self._object(get("/memory", fields(locals())))

    def memory_search(self, *, q: str, top_k: int = 4, min_score: float | None = None) -> ObjectT:
        return self._object(get("/memory/search", fields(locals())))

    def memory_delete(self, memory_id: str) -> ObjectT:
        return self._object(delete(f"/memory/{segment(memory_id)}"))

    def memory_clear(self) -> ObjectT:
        """Forget everything."""
        return self._object(delete("/memory"))

    # Optimization: policy, report, replay, test suites, regression schedules

    def optimization_policy(self) -> ObjectT:
        return self._object(get("/optimization/policy"))

    def optimization_update_policy(self, payload: Mapping[str, Any]) -> ObjectT:
        return self._object(put("/optimization/policy", payload))

    def optimization_report(
        self,
        *,
        goal: str = "balanced",
        days: int = 30,
        min_calls_per_model: int = 3,
        use_policy: bool = True,
        persist_snapshot: bool = False,
    ) -> ObjectT:
        """What the logs of the last `days` recommend for `goal`."""
        return self._object(get("/optimization/report", fields(locals())))

    def optimization_evaluate(self, *, goal: str | None = None, days: int | None = None) -> ObjectT:
        """Propose a version of what the logs recommend; needs an administrator's key."""
        return self._object(post("/optimization/evaluate", fields(locals())))

    def optimization_snapshots(self, *, goal: str | None = None, limit: int = 20) -> ObjectT:
        return self._object(get("/optimization/snapshots", fields(locals())))

    def optimization_alerts(self, *, limit: int = 12) -> ObjectT:
        return self._object(get("/optimization/alerts", fields(locals())))

    def optimization_replay(self, *, days: int = 30, sample_size: int = 100, policy: str | None = None) -> ObjectT:
        """Past requests through the current policy, or another version: `days` 1 to 90, `sample_size` 20 to 300."""
        return self._object(post("/optimization/replay", fields(locals())))

    def optimization_test_templates(self) -> ObjectT:
        return self._object(get("/optimization/test-templates"))

    def optimization_test_suites(self, *, limit: int = 25) -> ObjectT:
        return self._object(get("/optimization/test-suites", fields(locals())))

    def optimization_create_test_suite(self, payload: Mapping[str, Any]) -> ObjectT:
        return self._object(post("/optimization/test-suites", payload))

    def optimization_update_test_suite(self, suite_id: str, payload: Mapping[str, Any]) -> ObjectT:
        return self._object(put(f"/optimization/test-suites/{segment(suite_id)}", payload))

    def optimization_run_test_suite(self, suite_id: str) -> ObjectT:
        return self._object(post(f"/optimization/test-suites/{segment(suite_id)}/run"))

    def optimization_test_runs(self, *, limit: int = 20) -> ObjectT:
        return self._object(get("/optimization/test-runs", fields(locals())))

    def optimization_test_run_csv(self, run_id: str) -> TextT:
        return self._text(get(f"/optimization/test-runs/{segment(run_id)}/csv"))

    def optimization_regression_schedules(self, *, limit: int = 30) -> ObjectT:
        return self._object(get("/optimization/regression-schedules", fields(locals())))

    def optimization_create_regression_schedule(self, payload: Mapping[str, Any]) -> ObjectT:
        return self._object(post("/optimization/regression-schedules", payload))

    def optimization_update_regression_schedule(self, schedule_id: str, payload: Mapping[str, Any]) -> ObjectT:
        return self._object(put(f"/optimization/regression-schedules/{segment(schedule_id)}", payload))

    def optimization_run_regression_schedule(self, schedule_id: str) -> ObjectT:
        return self._object(post(f"/optimization/regression-schedules/{segment(schedule_id)}/run"))

    # Versions of policies, feedback

    def optimization_policies(self, *, limit: int = 25) -> ObjectT:
        """The versions, what was in force when, and who changed what."""
        return self._object(get("/optimization/policies", fields(locals())))

    def optimization_rerun(
        self,
        *,
        max_usd: float,
        judge: str,
        days: int = 30,
        sample_size: int = 100,
        models: Sequence[str] | None = None,
        policy: str | None = None,
        max_tokens: int = 2048,
    ) -> ObjectT:
        """Ask past questions again, of whom a policy would ask or of all `models`, graded, for at most `max_usd`.

        It takes as long as the answers do: `client.with_options(timeout=3600).optimization_rerun(...)`.
        """
        return self._object(post("/optimization/rerun", fields(locals())))

    def optimization_adopt(self, version: str, *, why: str = "", guard_days: float = 0.0) -> ObjectT:
        """Put a version in force; for `guard_days` it is given back by itself if it is worse than what was before."""
        body = {"why": why, "guard_days": guard_days}
        return self._object(post(f"/optimization/policies/{segment(version)}/adopt", body))

    def optimization_return(self, *, goal: str | None = None, why: str = "") -> ObjectT:
        """Put the version before back in force, or none."""
        return self._object(post("/optimization/return", fields(locals())))

    def optimization_try(
        self,
        version: str,
        *,
        stage: str = "shadow",
        share: float = 0.1,
        margin: float = 0.05,
        adopt_when_passed: bool = True,
        why: str = "",
    ) -> ObjectT:
        """Try a version: as a `shadow` that decides nothing, or as a `canary` on a share of conversations."""
        body = {name: value for name, value in fields(locals()).items() if name != "version"}
        return self._object(post(f"/optimization/policies/{segment(version)}/trial", body))

    def optimization_trial(self) -> ObjectT:
        """What the trial says so far."""
        return self._object(get("/optimization/trial"))

    def optimization_end_trial(self) -> ObjectT:
        return self._object(delete("/optimization/trial"))

    def feedback(
        self,
        *,
        request_id: str,
        score: float | None = None,
        thumbs: str | None = None,
        regenerate: bool | None = None,
        comment: str | None = None,
    ) -> ObjectT:
        """What a user thought of an answer: `score` (0 to 1), `thumbs` (`up`, `down`), `regenerate` or a `comment`."""
        return self._object(post("/feedback", fields(locals())))

    def explain_request(self, request_id: str) -> ObjectT:
        """What was decided for a past request, and why."""
        return self._object(get(f"/route/explain/{segment(request_id)}"))

    # Settings

    def settings_keys(self) -> ObjectT:
        """The providers' keys that the gateway holds, masked."""
        return self._object(get("/settings/keys"))

    def settings_save_keys(self, keys: Mapping[str, str]) -> ObjectT:
        """Store provider keys: `{"openai": "sk-..."}`."""
        return self._object(put("/settings/keys", {"keys": dict(keys)}))

    def settings_delete_key(self, provider: str) -> ObjectT:
        return self._object(delete(f"/settings/keys/{segment(provider)}"))

    def settings_privacy(self) -> ObjectT:
        return self._object(get("/settings/privacy"))

    def settings_update_privacy(
        self,
        *,
        data_training_opt_in: bool | None = None,
        zero_retention_mode: bool | None = None,
        purge_existing_data: bool = True,
    ) -> ObjectT:
        """Change the privacy settings; the answer counts the records that a purge removed or redacted."""
        return self._object(put("/settings/privacy", fields(locals())))

    def settings_copilot_state(self) -> ObjectT:
        return self._object(get("/settings/copilot"))

    def settings_update_copilot(
        self,
        *,
        goal: str | None = None,
        onboarded: bool | None = None,
        checklist: dict[str, bool] | None = None,
    ) -> ObjectT:
        return self._object(put("/settings/copilot", fields(locals())))

    def settings_ask_copilot(
        self, *, question: str, path: str | None = None, context: dict[str, str] | None = None
    ) -> ObjectT:
        return self._object(post("/settings/copilot/ask", fields(locals())))
