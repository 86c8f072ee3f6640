"""Request, catalog, settings and health in; a plan out. Pure: the same values give the same plan, live or replayed."""

from collections.abc import Callable, Collection, Mapping

from msgspec import Struct, structs

from llmwise.catalog.cost import estimate
from llmwise.catalog.lookup import Catalog
from llmwise.domain.errors import Forbidden, Unavailable, UnsupportedInput
from llmwise.domain.messages import Text
from llmwise.domain.models import ModelCard
from llmwise.domain.plan import Dropped, Plan, PlannedAttempt
from llmwise.domain.requests import AUTO, ChatRequest, Routing
from llmwise.routing.auto import AutoSettings, decide
from llmwise.routing.classifier import Classification, classify
from llmwise.routing.health import Health
from llmwise.routing.needs import Needs, lacks, needs_of
from llmwise.routing.strategies import order

MAX_FALLBACKS = 8


class View(Struct, frozen=True, gc=False):
    """The world as it stands when a request is planned. `turn` counts the uses of a chain (round-robin), `now` is the
    monotonic time in seconds, `allowed` the models that the caller's key may use (`None`: all)."""

    health: Mapping[str, Health]
    turn: Callable[[tuple[str, ...]], int]
    now: float
    allowed: Collection[str] | None = None


class Planner:
    """Turns requests into plans. Holds the catalog, the settings, and a ready plan for each single model."""

    def __init__(self, catalog: Catalog, settings: AutoSettings) -> None:
        self.catalog = catalog
        self.settings = structs.replace(
            settings,
            default=settings.default and catalog.resolve(settings.default).id,
            map={task: catalog.resolve(name).id for task, name in settings.map.items()},
            models=[catalog.resolve(name).id for name in settings.models],
        )
        classify("")  # reads its weights now, and not when the first question waits
        self._single = {card.id: Plan((PlannedAttempt(card, "requested"),)) for card in catalog.models}

    def plan(self, request: ChatRequest, view: View) -> Plan:
        """Raises `UnknownModel`, `Forbidden` (a key's allow-list), `UnsupportedInput` (no target can take it) and
        `Unavailable` (no model at all)."""
        if request.model == AUTO:
            return self._auto(request, view)
        card = self.catalog.resolve(request.model)
        if request.routing is None and view.allowed is None:
            if request.tools or request.response_format is not None or _has_media(request):
                _check([card], needs_of(request), [], context=False)
            return self._single[card.id]
        return self._chain(request, card, view)

    def classify(self, request: ChatRequest) -> Classification:
        """The class of the last thing the user said."""
        for message in reversed(request.messages):
            if message.role == "user":
                return classify(message.text)
        return classify("")

    def _chain(self, request: ChatRequest, card: ModelCard, view: View) -> Plan:
        routing = request.routing or Routing()
        cards = list(dict.fromkeys([card, *(self.catalog.resolve(name) for name in routing.fallback)]))
        dropped: list[Dropped] = []
        needs = needs_of(request)
        cards = _check(self._permitted(cards, view, dropped), needs, dropped, context=True, first=card)
        ordered = order(
            cards,
            routing.strategy,
            health=view.health,
            cost_nanousd={c.id: estimate(needs.prompt_tokens, needs.output_tokens, c.rate) for c in cards}
            if routing.strategy == "cost"
            else {},
            turn=view.turn(tuple(c.id for c in cards)) if routing.strategy == "round-robin" else 0,
            now=view.now,
        )
        return Plan(
            attempts=tuple(
                PlannedAttempt(c, "requested" if c is card else f"fallback ({routing.strategy})") for c in ordered
            ),
            dropped=tuple(dropped),
            chain=request.routing is not None,
            strategy=routing.strategy,
        )

    def _auto(self, request: ChatRequest, view: View) -> Plan:
        dropped: list[Dropped] = []
        cards = [c for c in self.catalog.models if not self.settings.models or c.id in self.settings.models]
        cards = self._permitted(cards, view, dropped)
        if not cards and not dropped:
            raise Unavailable("no model is configured: add a provider's key or a [[models]] entry", code="no_models")
        needs = needs_of(request)
        cards = _check(cards, needs, dropped, context=True)
        goal = request.goal or self.settings.goal
        ranked, decision = decide(cards, self.classify(request), needs, goal, self.settings, view.health)
        chosen, rest = ranked[0], ranked[1:]
        fallbacks = _spread(chosen, rest)[: self.settings.max_fallbacks]
        if request.routing is not None:
            named = [self.catalog.resolve(name) for name in request.routing.fallback]
            fallbacks = [c for c in dict.fromkeys(named) if c is not chosen]
        return Plan(
            attempts=(
                PlannedAttempt(chosen, decision.reasons[-1]),
                *(PlannedAttempt(c, "fallback") for c in fallbacks),
            ),
            dropped=tuple(dropped),
            chain=request.routing is not None or self.settings.max_fallbacks > 0,
            auto=decision,
        )

    def _permitted(self, cards: list[ModelCard], view: View, dropped: list[Dropped]) -> list[ModelCard]:
        if view.allowed is None:
            return cards
        permitted = [c for c in cards if c.id in view.allowed]
        if not permitted:
            names = ", ".join(c.id for c in cards[:4])
            raise Forbidden(f"this key may not use {names}: ask an administrator", code="model_not_allowed")
        dropped += [Dropped(c.id, "not_allowed", "not on the key's list") for c in cards if c not in permitted]
        return permitted


def _check(
    cards: list[ModelCard],
    needs: Needs,
    dropped: list[Dropped],
    *,
    context: bool,
    first: ModelCard | None = None,
) -> list[ModelCard]:
    """The cards that can take the request; the others go to `dropped`. The window of `first`, which the caller named
    himself, is not judged by our estimate: its provider counts better. Raises `UnsupportedInput` if none is left."""
    able = []
    for card in cards:
        reason = lacks(card, needs, context=context and card is not first)
        if reason is None:
            able.append(card)
        else:
            dropped.append(reason)
    if not able:
        raise UnsupportedInput(
            "no model can take this request: " + "; ".join(d.detail for d in dropped[:4]),
            reason=dropped[0].reason if dropped else None,
        )
    return able


def _spread(chosen: ModelCard, rest: list[ModelCard]) -> list[ModelCard]:
    """Fallbacks at other providers first: an outage is seldom one model's. No demonstration model behind a real one."""
    real = [c for c in rest if chosen.demonstration or not c.demonstration]
    return sorted(real, key=lambda c: c.provider == chosen.provider)


def _has_media(request: ChatRequest) -> bool:
    return any(len(m.parts) != 1 or type(m.parts[0]) is not Text for m in request.messages)
