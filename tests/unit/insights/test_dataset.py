"""Records become rows; what they can't tell is None."""

from collections.abc import Iterator, Sequence

from llmwise.domain.records import AttemptRecord, RequestRecord
from llmwise.insights.dataset import SUCCESS, Judged, rows, rows_of

from .traffic import attempt, request


def test_a_request_answered_by_its_fallback_says_two_things() -> None:
    judged = Judged(quality=0.8, propensity=0.9, explored=False, policy_version="cost-1")
    first, second = rows_of(request(), [attempt("a", "timeout", cost_nanousd=None), attempt("b")], judged)
    assert (first.model, first.success, first.after, first.cost_nanousd) == ("a", False, None, None)
    assert (second.model, second.success, second.after, second.provider) == ("b", True, "a", "of-b")
    assert (first.quality, second.quality) == (None, 0.8)
    assert (first.propensity, second.propensity) == (0.9, None)


def test_what_says_nothing_of_the_model_is_neither_success_nor_failure() -> None:
    (gone,) = rows_of(request(), [attempt("a", "client_gone")])
    (refused,) = rows_of(request(), [attempt("a", "rejected")])
    assert gone.success is refused.success is None


def test_only_a_failure_is_something_to_come_after() -> None:
    assert [row.after for row in rows_of(request(), [attempt("a", "rejected"), attempt("b")])] == [None, None]


def test_a_skipped_model_was_not_tried_and_leaves_no_propensity() -> None:
    (row,) = rows_of(request(), [attempt("a", "skipped"), attempt("b")], Judged(propensity=0.9))
    assert (row.model, row.after, row.propensity) == ("b", None, None)


def test_every_outcome_has_its_meaning() -> None:
    from typing import get_args

    from llmwise.domain.records import Outcome

    assert set(SUCCESS) == set(get_args(Outcome))


def test_turns_share_their_conversation_and_a_lone_request_is_its_own() -> None:
    (lone,) = rows_of(request(), [attempt("a")])
    (turn,) = rows_of(request(conversation_id="c"), [attempt("a")])
    assert (lone.conversation, turn.conversation) == ("r1", "c")


def test_rows_stream_and_comparisons_choose_nobody() -> None:
    def settled() -> Iterator[tuple[RequestRecord, Sequence[AttemptRecord]]]:
        yield request(mode="compare"), [attempt("a")]
        yield request(id="r2"), [attempt("b")]
        raise AssertionError("read too far")

    assert next(rows(settled(), lambda request_id: Judged(quality=float(request_id == "r2")))).quality == 1.0
