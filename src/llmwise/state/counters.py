"""Limits of one process: requests and tokens in fixed windows, and requests at the same time."""

from collections.abc import Sequence

from llmwise.state.port import TOKENS_WINDOW_S, Claim, Counted, Window


class LocalCounters:
    """One dict operation a window. The counts of old windows go when a new one begins."""

    def __init__(self) -> None:
        self._windows: dict[int, tuple[int, dict[tuple[str, str], int]]] = {}
        self._running: dict[str, int] = {}

    def count(self, subject: str, windows: Sequence[Window], now: float) -> Counted:
        """See `SharedState.count`; `now` in seconds of any clock that never goes back."""
        places: list[tuple[dict[tuple[str, str], int], int]] = []
        for window in windows:
            counts = self._counts(window.seconds, now)
            used = counts.get((subject, window.name), 0)
            if used >= window.limit:
                return Counted(window, used, window.seconds - now % window.seconds, refused=True)
            places.append((counts, used))
        for window, (counts, used) in zip(windows, places, strict=True):
            counts[subject, window.name] = used + 1
        first = windows[0]
        return Counted(first, places[0][1] + 1, first.seconds - now % first.seconds)

    def tokens(self, key_id: str, now: float) -> int:
        """How many were used in this window."""
        return self._counts(TOKENS_WINDOW_S, now).get((key_id, "tokens"), 0)

    def add_tokens(self, key_id: str, tokens: int, now: float) -> None:
        counts = self._counts(TOKENS_WINDOW_S, now)
        counts[key_id, "tokens"] = max(0, counts.get((key_id, "tokens"), 0) + tokens)

    def running(self, key_id: str) -> int:
        return self._running.get(key_id, 0)

    def begin(self, claim: Claim) -> None:
        self._running[claim.key_id] = self._running.get(claim.key_id, 0) + 1

    def end(self, claim: Claim) -> None:
        left = self._running.get(claim.key_id, 0) - 1
        if left > 0:
            self._running[claim.key_id] = left
        else:
            self._running.pop(claim.key_id, None)

    def _counts(self, seconds: int, now: float) -> dict[tuple[str, str], int]:
        number = int(now // seconds)
        current = self._windows.get(seconds)
        if current is None or current[0] != number:
            current = self._windows[seconds] = (number, {})
        return current[1]
