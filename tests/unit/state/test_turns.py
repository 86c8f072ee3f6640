"""What models said beside their tool calls is kept within bounds, and forgotten."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwise.state.turns import OVERHEAD_BYTES, ContinuitySettings, MemoryTurns

pytestmark = pytest.mark.anyio


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def turns(ttl_s: float = 60, max_bytes: int = 10_000, *, enabled: bool = True) -> tuple[MemoryTurns, Clock]:
    clock = Clock()
    return MemoryTurns(ContinuitySettings(enabled, ttl_s, max_bytes), clock), clock


async def test_a_turn_is_found_by_each_of_its_calls() -> None:
    kept, _ = turns()
    await kept.put([b"a", b"b"], b"turn")
    assert await kept.get([b"b", b"x", b"a"]) == [b"turn", None, b"turn"]


async def test_a_turn_is_forgotten_after_its_time_and_frees_its_place() -> None:
    kept, clock = turns(ttl_s=60)
    await kept.put([b"a"], b"turn")
    clock.now = 59.9
    assert await kept.get([b"a"]) == [b"turn"]
    clock.now = 60.0
    assert await kept.get([b"a"]) == [None]
    await kept.put([b"b"], b"next")
    assert kept.size == len(b"next") + OVERHEAD_BYTES


async def test_the_oldest_go_first_and_a_turn_kept_anew_is_young() -> None:
    kept, _ = turns(max_bytes=2 * (OVERHEAD_BYTES + 1))
    await kept.put([b"a"], b"1")
    await kept.put([b"b"], b"2")
    await kept.put([b"a"], b"3")
    await kept.put([b"c"], b"4")
    assert await kept.get([b"a", b"b", b"c"]) == [b"3", None, b"4"]


async def test_what_is_larger_than_the_whole_store_is_not_kept() -> None:
    kept, _ = turns(max_bytes=1000)
    await kept.put([b"a"], b"x" * 1000)
    assert (await kept.get([b"a"]), kept.size) == ([None], 0)


async def test_switched_off_it_keeps_nothing() -> None:
    kept, _ = turns(enabled=False)
    await kept.put([b"a"], b"turn")
    assert await kept.get([b"a"]) == [None]


@given(
    st.lists(
        st.tuples(st.lists(st.binary(max_size=1), max_size=3), st.binary(max_size=900), st.floats(0, 40)), max_size=30
    )
)
async def test_it_never_holds_more_than_it_may(puts: list[tuple[list[bytes], bytes, float]]) -> None:
    kept, clock = turns(ttl_s=60, max_bytes=3000)
    for keys, value, later in puts:
        await kept.put(keys, value)
        clock.now += later
        assert 0 <= kept.size <= 3000
        assert kept.size == sum(len(entry[1]) + OVERHEAD_BYTES for entry in kept._entries.values())
