"""What is replaced before it is stored, and that no text takes long."""

import time

import pytest

from llmwise.orchestration.redaction import PatternError, redactor


def redact(text: str, *names: str) -> str:
    found = redactor(names)
    assert found is not None
    return found(text)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a.b+c@mail.example.co.uk", "[email]"),
        ("<jane@example.com>, joe@example.org.", "<[email]>, [email]."),
        ("müller@example.de", "[email]"),
        ("@home and me@home", "@home and me@home"),
        ("x" * 100 + "@example.com", "x" * 100 + "@example.com"),
    ],
)
def test_mail_addresses(text: str, left: str) -> None:
    assert redact(text, "email") == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("4111111111111111", "[credit_card]"),
        ("4111-1111-1111-1111.", "[credit_card]."),
        ("3782 822463 10005", "[credit_card]"),
        ("4111111111111112", "4111111111111112"),
        ("41111111111111111111111", "41111111111111111111111"),
    ],
)
def test_card_numbers_that_check_out(text: str, left: str) -> None:
    assert redact(text, "credit_card") == left


@pytest.mark.parametrize(
    "key", ["sk-ant-api03-AbCdEfGh12345678", "mm_sk_" + "0" * 64, "ghp_0123456789abcdefABCD", "AKIAIOSFODNN7EXAMPLE"]
)
def test_keys(key: str) -> None:
    assert redact(f"use {key}!", "api_key") == "use [api_key]!"
    assert redact("the sky-high task-force", "api_key") == "the sky-high task-force"


def test_a_pattern_of_ones_own() -> None:
    assert redact("case ab-123 of AB", "regex:[a-z]{2}-[0-9]{1,6}+") == "case [redacted] of AB"
    assert redactor([]) is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a+)+b", "without a bound"),
        ("a*", "nothing at all"),
        (".+@x", "without a bound"),
        ("(a{1,20}){1,20}b", "more than 16 times|ways"),
        ("a{1,60}a{1,60}a{1,60}b", "ways"),
        (r"(a)\1", "back"),
        ("(?<=x)a", "around"),
        ("(?:a|a){12}b", "ways"),
        ("(", "no regular expression"),
        ("x{5000}", "characters"),
    ],
)
def test_a_pattern_whose_work_has_no_bound_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(PatternError, match=why):
        redactor([f"regex:{pattern}"])


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(PatternError, match="email, credit_card, api_key"):
        redactor(["mail"])


@pytest.mark.parametrize(
    "unit", ["a@", "4 ", "1", "sk-", "a.a.", "x@a-", "sk-sk_", "4111-", "aaaaaaaaaaaaaaaa@aaaaaaaaaaaaaaaa"]
)
def test_the_time_grows_with_the_text_and_no_faster(unit: str) -> None:
    own = "regex:[a-z@.]{1,30}[0-9]{1,30}x"
    steps = redactor(["email", "credit_card", "api_key", own])
    assert steps is not None

    def least_s(characters: int) -> float:
        text = (unit * characters)[:characters]
        return min(_timed(steps, text) for _ in range(5))

    small, large = least_s(4_000), least_s(32_000)
    assert large < 60 * max(small, 1e-5), "eight times the text: quadratic would be 64 times the time"
    assert large < 2


def _timed(step: object, text: str) -> float:
    assert callable(step)
    start = time.perf_counter()
    step(text)
    return time.perf_counter() - start
