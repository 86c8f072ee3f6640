"""Test suites and their runs: /optimization/test-*. A key sees its account's and pays for what it runs; it changes what
it made itself, an administrator everything. Else a key could put questions into what runs in another's name."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.json import decode, encode
from starlette.responses import Response

from llmwise.api.asking import asker
from llmwise.api.auth import Principal, require_mode
from llmwise.api.frame import Call
from llmwise.api.learning import NO_NUL, new_id
from llmwise.api.services import Services
from llmwise.domain.errors import Forbidden, NotFound, Unprocessable
from llmwise.domain.money import from_usd, to_usd
from llmwise.insights.suites import (
    MAX_CASES,
    MAX_MODELS,
    TEMPLATES,
    Case,
    Result,
    Run,
    Suite,
    run_case,
    scores,
    silenced,
    to_csv,
    validate,
)
from llmwise.storage import insights
from llmwise.storage.insights import Document
from llmwise.storage.rows import KeyRow
from llmwise.storage.store import Store

Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_NUL)]
Models = Annotated[list[Name], Meta(min_length=1, max_length=MAX_MODELS)]
Cases = Annotated[list[Case], Meta(min_length=1, max_length=MAX_CASES)]
Threshold = Annotated[float, Meta(ge=0, le=1)]
Usd = Annotated[float, Meta(gt=0, le=1000)]
Limit = Annotated[int, Meta(ge=1, le=200)]

RUNS_AT_ONCE = 20
SCANNED = 1000
"""Documents looked through for an account's own."""


class Owned(Struct, frozen=True):
    """A suite as it is stored, with whose it is: `key_id` made it and `changed_by` changed it last. `None`, of before
    this was kept, is nobody but an administrator."""

    account_id: str
    suite: Suite
    key_id: str | None = None
    changed_by: str | None = None


class OwnedRun(Struct, frozen=True):
    account_id: str
    run: Run


class SuitesQuery(Struct, forbid_unknown_fields=True):
    limit: Limit = 25


class RunsQuery(Struct, forbid_unknown_fields=True):
    limit: Limit = 20


class SuiteBody(Struct, forbid_unknown_fields=True):
    """A new suite. `template` fills in what is left out. `threshold` is the share of cases that each model must pass,
    `max_usd` ends a run that has cost more."""

    name: Name | None = None
    description: Annotated[str, Meta(max_length=2000)] = ""
    template: str | None = None
    models: Models | None = None
    cases: Cases | None = None
    judge: Name | None = None
    threshold: Threshold = 1.0
    max_usd: Usd = 1.0


class SuiteChange(Struct, forbid_unknown_fields=True):
    """What is left out stays."""

    name: Name | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=2000)] | UnsetType = UNSET
    models: Models | UnsetType = UNSET
    cases: Cases | UnsetType = UNSET
    judge: Name | UnsetType | None = UNSET
    threshold: Threshold | UnsetType = UNSET
    max_usd: Usd | UnsetType = UNSET


class RunBody(Struct, forbid_unknown_fields=True):
    """`models` in place of the suite's."""

    models: Models | None = None


class SuiteList(Struct):
    total: int
    items: list[Suite]


class TemplateList(Struct):
    total: int
    items: list[Any]


class RunRow(Struct):
    """A run in short; `GET .../test-runs/{id}/csv` has its results."""

    id: str
    suite_id: str
    suite_name: str
    suite_version: int
    schedule_id: str | None
    began_at_ms: int
    ended_at_ms: int
    status: str
    cost: float
    note: str | None
    models: list[Any]


class RunDetail(RunRow):
    results: list[Result]


class RunList(Struct):
    total: int
    items: list[RunRow]


async def templates(call: Call) -> TemplateList:
    """GET /api/v1/optimization/test-templates."""
    return TemplateList(len(TEMPLATES), [*TEMPLATES])


async def list_suites(call: Call) -> SuiteList:
    """GET /api/v1/optimization/test-suites, newest first."""
    query: SuitesQuery = call.query
    _, documents = await call.services.store.latest_documents("suite", SCANNED)
    mine = [one.suite for one in (decode(d.body, type=Owned) for d in documents) if _visible(call.key, one.account_id)]
    return SuiteList(len(mine), mine[: query.limit])


async def create_suite(call: Call) -> Suite:
    """POST /api/v1/optimization/test-suites."""
    body: SuiteBody = call.body
    assert call.key is not None
    template = next((one for one in TEMPLATES if one["id"] == body.template), None)
    if body.template is not None and template is None:
        known = ", ".join(one["id"] for one in TEMPLATES)
        raise Unprocessable(f"template = {body.template!r}: there is none; known: {known}", param="template")
    cases = body.cases
    if cases is None and template is not None:
        cases = msgspec.convert(template["cases"], list[Case])
    name = body.name or (template["name"] if template is not None else None)
    if name is None:
        raise Unprocessable("name: is required", param="name")
    if cases is None:
        raise Unprocessable("cases: is required, unless a template brings them", param="cases")
    validate(cases)
    judged(cases, body.judge)
    services = call.services
    now_ms = services.clock.unix_ms()
    suite = Suite(
        id=new_id("ste", now_ms),
        name=name,
        description=body.description or (template["description"] if template is not None else ""),
        models=_models(services, body.models or ["auto"]),
        cases=tuple(cases),
        judge=None if body.judge is None else services.catalog.resolve(body.judge).id,
        threshold=body.threshold,
        max_usd=body.max_usd,
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
    )
    stored = encode(Owned(call.key.account_id, suite, call.key.id, call.key.id)).decode()
    await services.store.put_document(Document("suite", suite.id, now_ms, now_ms, stored))
    return suite


async def update_suite(call: Call) -> Suite:
    """PUT /api/v1/optimization/test-suites/{suite_id}."""
    body: SuiteChange = call.body
    services = call.services
    assert call.key is not None
    by = call.key
    owned = await owned_of(services, by, call.path["suite_id"])
    own(by, owned.key_id, f"test suite {owned.suite.id}")
    now_ms = services.clock.unix_ms()
    given = {name: getattr(body, name) for name in body.__struct_fields__ if getattr(body, name) is not UNSET}
    if "models" in given:
        given["models"] = _models(services, given["models"])
    if "cases" in given:
        validate(given["cases"])
        given["cases"] = tuple(given["cases"])
    if given.get("judge") is not None:
        given["judge"] = services.catalog.resolve(given["judge"]).id

    def change(old: str | None) -> str:
        assert old is not None, "suites are never removed"
        owned = decode(old, type=Owned)
        suite = msgspec.structs.replace(owned.suite, **given, updated_at_ms=now_ms, version=owned.suite.version + 1)
        judged(suite.cases, suite.judge)
        return encode(msgspec.structs.replace(owned, suite=suite, changed_by=by.id)).decode()

    stored = await services.store.change_document("suite", call.path["suite_id"], now_ms, change)
    return decode(stored.body, type=Owned).suite


async def run_now(call: Call) -> RunDetail:
    """POST /api/v1/optimization/test-suites/{suite_id}/run: when it answers, the run is over."""
    body: RunBody = call.body or RunBody()
    assert call.key is not None
    suite = await suite_of(call.services, call.key, call.path["suite_id"])
    if body.models is not None:
        suite = msgspec.structs.replace(suite, models=_models(call.services, body.models))
    principal = await call.services.authenticator.principal(call.key)
    return detail(await run(call.services, principal, suite))


async def list_runs(call: Call) -> RunList:
    """GET /api/v1/optimization/test-runs, newest first."""
    query: RunsQuery = call.query
    _, documents = await call.services.store.latest_documents("run", SCANNED)
    mine = [one.run for one in (decode(d.body, type=OwnedRun) for d in documents) if _visible(call.key, one.account_id)]
    return RunList(len(mine), [RunRow(**_row(one)) for one in mine[: query.limit]])


async def run_csv(call: Call) -> Response:
    """GET /api/v1/optimization/test-runs/{run_id}/csv."""
    document = await call.services.store.document("run", call.path["run_id"])
    owned = None if document is None else decode(document.body, type=OwnedRun)
    if owned is None or not _visible(call.key, owned.account_id):
        raise NotFound(f"no test run {call.path['run_id'][:64]!r}; /optimization/test-runs lists them")
    headers = {"content-disposition": f'attachment; filename="{owned.run.id}.csv"'}
    return Response(to_csv(owned.run), media_type="text/csv; charset=utf-8", headers=headers)


async def run(services: Services, principal: Principal, suite: Suite, *, schedule_id: str | None = None) -> Run:
    """All cases on all models, one after the other: a suite must not be what trips a provider's limits. Kept when it is
    over; a run that is cancelled leaves the records of what it asked. Raises `Forbidden` for a key without chat."""
    require_mode(principal, "chat")
    began_ms = services.clock.unix_ms()
    id = new_id("run", began_ms)
    ask = asker(services, principal, f"llmwise-suite-{id}")
    results: list[Result] = []
    spent, limit, note = 0, from_usd(suite.max_usd), None
    for number, case in enumerate(suite.cases):
        for model in suite.models:
            if spent >= limit:
                note = f"ended early: {to_usd(spent):.6f} USD spent of max_usd = {suite.max_usd:g}"
                break
            results.append(await run_case(case, number, model, suite, ask))
            spent += results[-1].cost_nanousd or 0
    # Asked at the end: zero retention may have begun while it ran.
    if not services.handling(await services.authenticator.principal(principal.key)).keep_text:
        results = [silenced(result) for result in results]
    told = scores(suite, results)
    status = "stopped" if note else "failed" if any(score.below_threshold for score in told) else "passed"
    done = Run(
        id, suite.id, suite.name, suite.version, schedule_id, began_ms, services.clock.unix_ms(),
        status,  # type: ignore[arg-type]  # one of the three words
        told, tuple(results), spent, note,
    )  # fmt: skip
    stored = encode(OwnedRun(principal.key.account_id, done)).decode()
    await services.store.put_document(Document("run", id, began_ms, done.ended_at_ms, stored))
    return done


async def forget_texts(
    store: Store, now_ms: int, *, account_id: str | None = None, before_ms: int | None = None
) -> int:
    """What runs keep of answers, of one account or of everybody's from before; how many runs had any. Suites stay: they
    are what somebody set up, as a configuration is."""
    begins = '{"account_id":' + ("" if account_id is None else f"{encode(account_id).decode()},")
    count = 0
    while some := await store.read(
        insights.beginning, "run", begins, '"answer":"', now_ms + 1 if before_ms is None else before_ms, RUNS_AT_ONCE
    ):
        for one in some:
            await store.change_document("run", one.id, now_ms, _silenced)
        count += len(some)
    return count


def _silenced(body: str | None) -> str:
    assert body is not None, "runs are never removed"
    owned = decode(body, type=OwnedRun)
    results = tuple(silenced(result) for result in owned.run.results)
    return encode(OwnedRun(owned.account_id, msgspec.structs.replace(owned.run, results=results))).decode()


async def suite_of(services: Services, key: KeyRow | None, suite_id: str) -> Suite:
    """Raises `NotFound`, also for another account's."""
    return (await owned_of(services, key, suite_id)).suite


async def owned_of(services: Services, key: KeyRow | None, suite_id: str) -> Owned:
    """Raises `NotFound`, also for another account's."""
    document = await services.store.document("suite", suite_id)
    owned = None if document is None else decode(document.body, type=Owned)
    if owned is None or not _visible(key, owned.account_id):
        raise NotFound(f"no test suite {suite_id[:64]!r}; /optimization/test-suites lists them")
    return owned


def own(key: KeyRow, maker: str | None, what: str) -> None:
    """Raises `Forbidden` unless `key` made it or is an administrator's."""
    if not key.admin and key.id != maker:
        raise Forbidden(f"{what} was made with another key: only that one or an administrator's may do that")


def judged(cases: Sequence[Case], judge: str | None) -> None:
    """Raises `Unprocessable` for a check that a judge makes, where neither it nor the suite names one."""
    for number, case in enumerate(cases):
        for at, check in enumerate(case.checks):
            if check.type == "judge" and check.judge is None and judge is None:
                where = f"cases[{number}].checks[{at}]"
                raise Unprocessable(f"{where}: names no judge and neither does the suite; add `judge`", param=where)


def _visible(key: KeyRow | None, account_id: str) -> bool:
    return key is not None and (key.admin or key.account_id == account_id)


def _models(services: Services, names: list[str]) -> tuple[str, ...]:
    """Ids; Auto, chains and composed models by their names. Raises `UnknownModel`."""
    planner = services.planner
    return tuple(
        dict.fromkeys(
            name
            if name == "auto" or name in planner.composed or planner.chain(name) is not None
            else services.catalog.resolve(name).id
            for name in names
        )
    )


def _row(one: Run) -> dict[str, Any]:
    return {
        "id": one.id,
        "suite_id": one.suite_id,
        "suite_name": one.suite_name,
        "suite_version": one.suite_version,
        "schedule_id": one.schedule_id,
        "began_at_ms": one.began_at_ms,
        "ended_at_ms": one.ended_at_ms,
        "status": one.status,
        "cost": to_usd(one.cost_nanousd),
        "note": one.note,
        "models": [
            {name: value for name, value in msgspec.structs.asdict(score).items() if name != "cost_nanousd"}
            | {"cost": to_usd(score.cost_nanousd)}
            for score in one.scores
        ],
    }


def detail(one: Run) -> RunDetail:
    return RunDetail(**_row(one), results=[*one.results])
