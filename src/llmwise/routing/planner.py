"""Request, catalog, settings and health in; a plan out. Pure: the same values give the same plan, live or replayed."""

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct, structs

from llmwise.catalog.cost import estimate, estimate_tokens
from llmwise.catalog.lookup import Catalog, normal
from llmwise.domain.errors import Forbidden, InvalidRequest, Unavailable, UnsupportedInput
from llmwise.domain.messages import Family, Text
from llmwise.domain.models import ModelCard
from llmwise.domain.plan import PORTABLE, AutoDecision, Dropped, Origin, Plan, PlannedAttempt
from llmwise.domain.requests import AUTO, ChatRequest, EmbeddingRequest, Goal, Routing
from llmwise.routing.auto import AutoSettings, decide
from llmwise.routing.chains import Chain
from llmwise.routing.classifier import Classification, classify, examine
from llmwise.routing.health import Health
from llmwise.routing.learned import Learned, lot
from llmwise.routing.needs import Needs, lacks, needs_of
from llmwise.routing.strategies import order

MAX_FALLBACKS = 8

CONTINUES = "continues the tool loop"


class View(Struct, frozen=True, gc=False):
    """The world as it stands when a request is planned. `turn` counts the uses of a chain (round-robin), `now` is the
    monotonic time in seconds, `allowed` the models that the caller's key may use (`None`: all). `origin` made the tool
    calls whose results the request brings, `families` are the providers' by their names. `learned` has the adopted
    policies by goal; `draw`, uniform in 0..1, says whether Auto explores where the request names no conversation.
    `auto` are settings in place of the planner's own; `avoid` has (task type or `None` for all, model) that do badly
    just now, whom Auto leaves out where somebody else can take the request."""

    health: Mapping[str, Health]
    turn: Callable[[tuple[str, ...]], int]
    now: float
    allowed: Collection[str] | None = None
    origin: Origin | None = None
    families: Mapping[str, Family] = {}
    learned: Mapping[Goal, Learned] = {}
    draw: float = 1.0
    auto: AutoSettings | None = None
    avoid: Collection[tuple[str | None, str]] = ()


class Planner:
    """Turns requests into plans. Holds the catalog, the chains by name, the settings, and a ready plan for each single
    model."""

    def __init__(
        self,
        catalog: Catalog,
        settings: AutoSettings,
        chains: Mapping[str, Chain] | None = None,
        composed: Sequence[ModelCard] = (),
    ) -> None:
        self.catalog = catalog
        self.composed = {card.id: card for card in composed}
        self.chains = chains or {}
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
        if (composed := self.composed.get(request.model)) is not None:
            return self._composed(request, composed, view)
        if (chain := self.chain(request.model)) is not None:
            return self._chain(request, list(chain.targets), view, chain)
        card = self.catalog.resolve(request.model)
        if request.routing is None and view.allowed is None:
            if request.tools or request.response_format is not None or _has_media(request):
                _check([card], needs_of(request), [], context=False)
            return self._single[card.id]
        return self._chain(request, [card], view)

    def _composed(self, request: ChatRequest, card: ModelCard, view: View) -> Plan:
        """A key that may use a composed model may use it whole: the models in it are the configuration's choice."""
        if request.routing is not None and request.routing.fallback:
            raise InvalidRequest(f"routing.fallback: {card.id} is a composed model and has none", param="routing")
        self._permitted([card], view, [])
        _check([card], needs_of(request), [], context=False)
        return Plan((PlannedAttempt(card, "requested"),), composed=True)

    def chain(self, name: str) -> Chain | None:
        """The configured chain of this name. No model has the name of a chain."""
        return self.chains.get(normal(name)) if self.chains else None

    def embedding(self, request: EmbeddingRequest, view: View) -> Plan:
        """As `plan`, and raises `InvalidRequest` for a chat model. Nobody but the caller chooses whose vectors to get:
        those of two models can't be compared, so only the chain that he names is tried."""
        if request.model == AUTO:
            raise InvalidRequest("model = 'auto': name the embedding model whose vectors you want", param="model")
        routing = request.routing or Routing()
        cards = list(dict.fromkeys(self.catalog.resolve(n, "embedding") for n in (request.model, *routing.fallback)))
        for card in cards:
            self._permitted([card], view, [])
        tokens = sum(estimate_tokens(given) if isinstance(given, str) else len(given) for given in request.inputs)
        ordered = order(
            cards,
            routing.strategy,
            health=view.health,
            cost_nanousd={card.id: estimate(tokens, 0, card.rate) for card in cards},
            turn=view.turn(tuple(card.id for card in cards)) if routing.strategy == "round-robin" else 0,
            now=view.now,
        )
        attempts = [
            PlannedAttempt(c, "requested" if c is cards[0] else f"fallback ({routing.strategy})") for c in ordered
        ]
        return Plan(tuple(attempts), chain=request.routing is not None, strategy=routing.strategy)

    def classify(self, request: ChatRequest) -> Classification:
        """The class of the last thing the user said."""
        return classify(_question(request))

    def _named(self, names: Sequence[str], view: View, dropped: list[Dropped]) -> list[ModelCard]:
        """The models of a request's own chain, with those of a configured one in its place. Raises `Forbidden` for one
        that the caller names and may not use; of a configured chain those that he may use are enough."""
        cards: list[ModelCard] = []
        for name in names:
            chain = self.chain(name)
            meant = list(chain.targets) if chain is not None else [self.catalog.resolve(name)]
            cards += self._permitted(meant, view, dropped)
        return list(dict.fromkeys(cards))

    def _chain(self, request: ChatRequest, asked: list[ModelCard], view: View, named: Chain | None = None) -> Plan:
        """`asked` and then the request's fallbacks, in the request's order if it brings one, else in the order of the
        chain that was `named`."""
        routing = request.routing or Routing(strategy="rate-limit" if named is None else named.strategy)
        dropped: list[Dropped] = []
        permitted = self._permitted(asked, view, dropped)
        cards = list(dict.fromkeys([*permitted, *self._named(routing.fallback, view, dropped)]))
        card = asked[0]
        needs = needs_of(request)
        first = card if named is None else None
        cards = _check(cards, needs, dropped, context=True, first=first)
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
        continued = _continued(ordered, view)
        if named is None:
            reasons = {c.id: "requested" if c is card else f"fallback ({routing.strategy})" for c in ordered}
        else:
            reasons = {c.id: f"chain {named.name} ({routing.strategy})" for c in ordered}
        if continued is not None:
            ordered = [continued, *(c for c in ordered if c is not continued)]
            reasons[continued.id] = CONTINUES
        return Plan(
            attempts=tuple(PlannedAttempt(c, reasons[c.id]) for c in ordered),
            dropped=tuple(dropped),
            chain=request.routing is not None or named is not None,
            strategy=routing.strategy,
        )

    def _auto(self, request: ChatRequest, view: View) -> Plan:
        dropped: list[Dropped] = []
        settings = view.auto or self.settings
        chats = [c for c in self.catalog.models if c.kind == "chat"]
        cards = [c for c in chats if not settings.models or c.id in settings.models]
        cards = self._permitted(cards, view, dropped)
        if not cards and not dropped:
            raise Unavailable("no model is configured: add a provider's key or a [[models]] entry", code="no_models")
        needs = needs_of(request)
        cards = _check(cards, needs, dropped, context=True)
        goal = request.goal or settings.goal
        learned, conversation = view.learned.get(goal), request.conversation_id
        looked = None
        if learned is None or learned.priced is None:
            seen = self.classify(request)
        else:
            seen, looked = examine(_question(request))
        cards = _well(cards, str(seen.task_type), view, dropped)
        ranked, decision = decide(
            cards,
            seen,
            needs,
            goal,
            settings,
            view.health,
            learned=learned,
            draw=view.draw if learned is None or conversation is None else lot(learned.version, conversation),
            looked=looked,
        )
        if (continued := _continued(ranked, view)) is not None:
            ranked = [continued, *(c for c in ranked if c is not continued)]
            decision = _continuing(decision, continued)
        chosen, rest = ranked[0], ranked[1:]
        fallbacks = _spread(chosen, rest)[: settings.max_fallbacks]
        if request.routing is not None:
            own = [card for card in self._named(request.routing.fallback, view, dropped) if card is not chosen]
            lacking = {card.id: reason for card in own if (reason := lacks(card, needs)) is not None}
            dropped += lacking.values()
            fallbacks = [card for card in own if card.id not in lacking]
        return Plan(
            attempts=(
                PlannedAttempt(chosen, decision.reasons[-1]),
                *(PlannedAttempt(c, "fallback") for c in fallbacks),
            ),
            dropped=tuple(dropped),
            chain=request.routing is not None or settings.max_fallbacks > 0,
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


def _question(request: ChatRequest) -> str:
    """The last thing the user said."""
    return next((message.text for message in reversed(request.messages) if message.role == "user"), "")


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


def _well(cards: list[ModelCard], task: str, view: View, dropped: list[Dropped]) -> list[ModelCard]:
    """Without those that do badly just now, unless none would be left."""
    ill = {model for of, model in view.avoid if of is None or of == task} if view.avoid else set()
    left = [card for card in cards if card.id not in ill and not card.demonstration]
    if not ill or not left or (view.origin is not None and view.origin.model in ill):
        return cards
    dropped += [Dropped(c.id, "degraded", f"{c.id} does badly just now (see alerts)") for c in cards if c.id in ill]
    return [card for card in cards if card.id not in ill]


def _continued(cards: Sequence[ModelCard], view: View) -> ModelCard | None:
    """The one of `cards` that made the open tool calls, or else the first that can read its thinking."""
    made = view.origin
    if made is None:
        return None
    kin = [c for c in cards if view.families.get(c.provider) == made.family] if made.family in PORTABLE else []
    return next((card for card in cards if card.id == made.model), None) or next(iter(kin), None)


def _continuing(decision: AutoDecision, card: ModelCard) -> AutoDecision:
    candidates = sorted(
        (structs.replace(c, reason=CONTINUES) if c.model == card.id else c for c in decision.candidates),
        key=lambda c: c.model != card.id,
    )
    reasons = (*decision.reasons[:-1], f"{card.id}: {CONTINUES}.")
    # The conversation chose, not the policy: nothing is to be learned from it as a choice.
    return structs.replace(
        decision,
        reasons=reasons,
        candidates=tuple(candidates),
        policy_version=None,
        propensity=None,
        explored=False,
    )


def _spread(chosen: ModelCard, rest: list[ModelCard]) -> list[ModelCard]:
    """Fallbacks at other providers first: an outage is seldom one model's. No demonstration model behind a real one."""
    real = [c for c in rest if chosen.demonstration or not c.demonstration]
    return sorted(real, key=lambda c: c.provider == chosen.provider)


def _has_media(request: ChatRequest) -> bool:
    return any(len(m.parts) != 1 or type(m.parts[0]) is not Text for m in request.messages)
