"""Every error that a caller can see, with the three facts that decide what happens next.

    GatewayError
    ├── CallerError                 the request itself; another target would say the same
    │   ├── InvalidRequest          400  invalid_request
    │   │   └── InvalidJSON         400  invalid_json
    │   ├── Unauthorized            401  unauthorized
    │   ├── OutOfCredit             402  out_of_credit
    │   ├── Forbidden               403  forbidden
    │   ├── NotFound                404  not_found
    │   │   └── UnknownModel        404  model_not_found
    │   ├── MethodNotAllowed        405  method_not_allowed
    │   ├── BodyTimeout             408  body_timeout
    │   ├── Conflict                409  conflict
    │   ├── PayloadTooLarge         413  payload_too_large
    │   ├── UnsupportedMediaType    415  unsupported_media_type
    │   ├── Unprocessable           422  validation_error
    │   ├── RateLimited             429  rate_limited
    │   ├── NotImplementedHere      501  not_implemented
    │   └── movable: another target may take it, without a breaker penalty
    │       ├── ContextTooLong      400  context_length_exceeded
    │       ├── UnsupportedInput    400  unsupported_input
    │       ├── UpstreamRejected    400  upstream_rejected      the provider calls the request bad
    │       └── UpstreamNoModel     502  upstream_model_missing the provider does not know the model
    ├── UpstreamError               the provider; another target may help
    │   ├── UpstreamRateLimited     429  upstream_rate_limited
    │   ├── UpstreamOverloaded      529  upstream_overloaded
    │   ├── UpstreamServerError     502  upstream_error
    │   ├── UpstreamTimeout         504  upstream_timeout
    │   ├── UpstreamUnreachable     502  upstream_unreachable
    │   ├── UpstreamCut             502  upstream_cut
    │   ├── UpstreamInvalid         502  upstream_invalid_response
    │   └── UpstreamUnauthorized    502  upstream_unauthorized  our key there is bad: hard down
    ├── Unavailable                 503  unavailable            nothing left to try
    │   ├── ShuttingDown            503  shutting_down          the gateway itself is ending
    │   └── CircuitOpen             503  circuit_open
    ├── DeadlineExceeded            504  deadline_exceeded      the request's own total time
    └── InternalError               500  internal_error

`UpstreamRejected` moves on only for a refusal that is about the target (see `providers.failures`); a plain 400 or 422
of a provider is `InvalidRequest` with `provider` set: the caller's fault wherever it goes.
"""

from typing import Any, ClassVar, Literal, TypeAlias

BreakerEffect: TypeAlias = Literal["none", "failure", "hard_down"]


class GatewayError(Exception):
    """`status` and `code` are what the caller gets. `message` says what was wrong, with which value, and what to do.

    retryable       another target may succeed
    breaker         what it means for the target's circuit
    caller_fault    the caller has to change something
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False
    breaker: ClassVar[BreakerEffect] = "none"
    caller_fault: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        upstream_status: int | None = None,
        retry_after_s: float | None = None,
        reason: str | None = None,
        code: str | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.upstream_status = upstream_status
        self.retry_after_s = retry_after_s
        self.reason = reason
        self.details = details
        if code is not None:
            self.code = code  # type: ignore[misc]  # a more exact code of the same class, e.g. `invalid_model`

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.message,), self.__dict__)


class CallerError(GatewayError):
    status = 400
    code = "invalid_request"
    caller_fault = True


class InvalidRequest(CallerError):
    status = 400
    code = "invalid_request"


class InvalidJSON(InvalidRequest):
    code = "invalid_json"


class Unauthorized(CallerError):
    status = 401
    code = "unauthorized"


class OutOfCredit(CallerError):
    status = 402
    code = "out_of_credit"


class Forbidden(CallerError):
    status = 403
    code = "forbidden"


class NotFound(CallerError):
    status = 404
    code = "not_found"


class UnknownModel(NotFound):
    code = "model_not_found"


class MethodNotAllowed(CallerError):
    status = 405
    code = "method_not_allowed"


class BodyTimeout(CallerError):
    status = 408
    code = "body_timeout"


class Conflict(CallerError):
    status = 409
    code = "conflict"


class PayloadTooLarge(CallerError):
    status = 413
    code = "payload_too_large"


class UnsupportedMediaType(CallerError):
    status = 415
    code = "unsupported_media_type"


class Unprocessable(CallerError):
    status = 422
    code = "validation_error"


class RateLimited(CallerError):
    status = 429
    code = "rate_limited"


class NotImplementedHere(CallerError):
    status = 501
    code = "not_implemented"


class ContextTooLong(CallerError):
    status = 400
    code = "context_length_exceeded"
    retryable = True


class UnsupportedInput(CallerError):
    status = 400
    code = "unsupported_input"
    retryable = True


class UpstreamRejected(CallerError):
    status = 400
    code = "upstream_rejected"
    retryable = True


class UpstreamNoModel(CallerError):
    status = 502
    code = "upstream_model_missing"
    retryable = True
    caller_fault = False


class UpstreamError(GatewayError):
    status = 502
    code = "upstream_error"
    retryable = True
    breaker: ClassVar[BreakerEffect] = "failure"


class UpstreamServerError(UpstreamError):
    pass


class UpstreamRateLimited(UpstreamError):
    status = 429
    code = "upstream_rate_limited"


class UpstreamOverloaded(UpstreamError):
    status = 529
    code = "upstream_overloaded"


class UpstreamTimeout(UpstreamError):
    """`reason` says which time ran out: `connect`, `first_event` or `idle`."""

    status = 504
    code = "upstream_timeout"


class UpstreamUnreachable(UpstreamError):
    code = "upstream_unreachable"


class UpstreamCut(UpstreamError):
    """The answer ended without its terminal frame."""

    code = "upstream_cut"


class UpstreamInvalid(UpstreamError):
    """Bytes that are not what the provider's documentation promises."""

    code = "upstream_invalid_response"


class UpstreamUnauthorized(UpstreamError):
    code = "upstream_unauthorized"
    breaker = "hard_down"


class Unavailable(GatewayError):
    status = 503
    code = "unavailable"


class ShuttingDown(Unavailable):
    """The gateway ends, and this request took longer than it may go on (`[server] drain_s`)."""

    code = "shutting_down"


class CircuitOpen(Unavailable):
    code = "circuit_open"


class DeadlineExceeded(GatewayError):
    status = 504
    code = "deadline_exceeded"


class InternalError(GatewayError):
    pass
