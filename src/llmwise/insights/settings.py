"""What the operator says of alerts and of grading, in the configuration."""

from msgspec import Struct


class AlertSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[alerts]`: whom to tell of drift, besides the log and GET /api/v1/optimization/alerts.

    webhook     an http(s) URL that gets each alert as JSON by POST, when it begins and when it ends
    secret      `env:NAME` or `file:PATH` of what signs it: `X-LLMWise-Signature: sha256=HMAC(secret, body)`
    avoid       Auto leaves out who does badly, but for one conversation in twenty
    """

    webhook: str | None = None
    secret: str | None = None
    avoid: bool = True


class QualitySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[quality]`: a share of answers is graded by a judge. Off without one; needs `[storage] keep_text`.

    judge            the model that grades, of another vendor than those it grades; absent: nobody does
    share            of the answers of each task type and model, 0..1
    max_usd_per_day  no more is spent on grading in 24 hours
    """

    judge: str | None = None
    share: float = 0.02
    max_usd_per_day: float = 1.0
