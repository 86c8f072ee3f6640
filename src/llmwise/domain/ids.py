"""Identifiers: text that sorts by the time of its making, so that an index on an id is an index on time."""

from typing import NewType

RequestId = NewType("RequestId", str)
AttemptId = NewType("AttemptId", str)
KeyId = NewType("KeyId", str)


def request_id(now_ms: int, randomness: int) -> RequestId:
    """`req_` and 32 hex digits: 48 bits of Unix milliseconds, then 80 random bits (the layout of UUIDv7, RFC 9562,
    without its version bits)."""
    return RequestId("req_" + (now_ms << 80 | randomness).to_bytes(16, "big").hex())


def attempt_id(request: RequestId, number: int) -> AttemptId:
    """The `number`-th attempt (from 0) of a request: unique because the request's id is."""
    return AttemptId(f"{request}.{number}")
