"""Waiting: it gives the first truthy answer, and says what never came."""

from __future__ import annotations

import pytest

from tests.support.bounded import until


def test_gives_the_first_truthy_answer() -> None:
    answers = iter([0, "", None, "there"])
    assert until(lambda: next(answers)) == "there"


def test_says_what_never_came_and_the_last_answer() -> None:
    with pytest.raises(TimeoutError, match=r"a sign; last answer: \[\]"):
        until(list, timeout=0, what="a sign")
