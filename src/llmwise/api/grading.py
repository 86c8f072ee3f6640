"""Answers graded by a model: a stratified sample, through the engine, within a day's budget."""

import logging
from random import Random

from llmwise.api.asking import asker
from llmwise.api.learning import DAY_MS
from llmwise.api.services import Services
from llmwise.domain.errors import GatewayError
from llmwise.domain.money import from_usd
from llmwise.insights.dataset import is_own
from llmwise.insights.quality import JUDGE_PROMPT, JUDGE_SYSTEM, grade_of, to_judge
from llmwise.insights.settings import QualitySettings
from llmwise.storage.insights import Signal

log = logging.getLogger(__name__)

AT_ONCE = 20
MOST_LOOKED_AT = 5000
CONVERSATION = "llmwise-grading"


async def grade(services: Services, settings: QualitySettings, random: Random) -> int:
    """Grade up to `AT_ONCE` answers of the last day; how many were. Each is asked in the name of the key whose answer
    it is, so that its account pays and its zero retention holds (then there is no text and nothing to grade)."""
    assert settings.judge is not None
    now_ms = services.clock.unix_ms()
    card = services.catalog.resolve(settings.judge)
    signals = await services.store.signals_since(now_ms - DAY_MS)
    spent = sum(signal.cost_nanousd or 0 for signal in signals if signal.source == "judge")
    settled = await services.store.settled_between(now_ms - DAY_MS, now_ms + 1, MOST_LOOKED_AT, texts=True)
    version = f"{card.id}/{JUDGE_PROMPT}"
    settled = tuple(one for one in settled if not is_own(one.request.conversation_id))
    known = {signal.request_id for signal in signals if signal.source == "judge"}
    done = 0
    for record in to_judge(settled, known, settings.share, card.provider, random)[:AT_ONCE]:
        if spent >= from_usd(settings.max_usd_per_day):
            log.warning("grading has spent its %.4g USD of the day", settings.max_usd_per_day)
            break
        try:
            key = await services.store.one_key(record.key_id)
            principal = await services.authenticator.principal(key)
        except GatewayError:
            continue  # its key works no more
        material = f"<question>\n{record.prompt}\n</question>\n<answer>\n{record.answer}\n</answer>"
        asked = await asker(services, principal, CONVERSATION)(card.id, JUDGE_SYSTEM, material, 200)
        spent += asked.cost_nanousd or 0
        value = None if asked.error is not None else grade_of(asked.text)
        signal = Signal(
            f"{record.id}/{version}", record.id, now_ms, "judge", "judge", value, version,
            record.key_id, asked.error, asked.cost_nanousd,
        )  # fmt: skip
        done += await services.store.add_signals([signal])
    return done
