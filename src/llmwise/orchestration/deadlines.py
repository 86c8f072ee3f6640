"""Time, handed down: one total for the request, and out of it what each wait of each attempt may take."""

from msgspec import Struct


class TimeoutSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[timeouts]`, in seconds.

    connect_s       to reach the provider
    first_event_s   from the start of an attempt to its first content, when it streams
    idle_s          between two reads of an answer that has begun
    total_s         for the whole request, all attempts together
    answer_s        from the start of an attempt to the answer's headers, when it does not stream: the provider then
                    says nothing until it is done. Absent: four times `first_event_s`
    """

    connect_s: float = 5.0
    first_event_s: float = 90.0
    idle_s: float = 90.0
    total_s: float = 600.0
    answer_s: float | None = None


class Deadline:
    """The instants of one request, on the event loop's clock (seconds)."""

    __slots__ = ("_settings", "_stream", "expires")

    def __init__(self, settings: TimeoutSettings, now: float, *, stream: bool) -> None:
        self._settings = settings
        self._stream = stream
        self.expires = now + settings.total_s

    def first_content(self, now: float, attempts_left: int) -> float:
        """Until when an attempt that starts `now` may take to its first content.

        An answer that does not stream shares what is left of the total with the attempts that may have to follow, so
        that a provider that hangs leaves time for its fallback.
        """
        if self._stream:
            return min(now + self._settings.first_event_s, self.expires)
        answer_s = self._settings.answer_s or 4 * self._settings.first_event_s
        return now + min(answer_s, (self.expires - now) / max(1, attempts_left))

    def next_read(self, now: float) -> float:
        """Until when the next read of a committed answer may take."""
        return min(now + self._settings.idle_s, self.expires)
