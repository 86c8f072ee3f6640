"""The real clock, and ids made of it."""

import os
import random
import time

from llmwise.domain.ids import RequestId, request_id


class SystemClock:
    """`domain.ports.Clock` on the machine's clocks."""

    monotonic = staticmethod(time.monotonic)

    def unix_ms(self) -> int:
        return time.time_ns() // 1_000_000


_random = random.Random(os.urandom(32))


def new_request_id() -> RequestId:
    """Unique, not secret: what a request's id opens, its key opens anyway."""
    return request_id(time.time_ns() // 1_000_000, _random.getrandbits(80))
