"""The question in the terminal: about the oldest hold, and never in the middle of another line."""

from __future__ import annotations

import pytest

from clew.cli.question import Question


def test_one_question_at_a_time_about_the_oldest(capsys: pytest.CaptureFixture[str]) -> None:
    question = Question()
    question.show()
    assert capsys.readouterr().err == ""
    question.add("H1")
    question.show()
    question.show()
    question.add("H2")
    assert capsys.readouterr().err.count("H1: release (r)") == 1
    question.answered()
    question.drop("H1")
    question.show()
    assert capsys.readouterr().err.startswith("  H2: release (r)")


def test_what_is_printed_meanwhile_begins_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    question = Question()
    question.add("H1")
    question.show()
    question.make_room()
    question.make_room()
    assert capsys.readouterr().err.endswith("? \n")
    question.show()
    assert "H1" in capsys.readouterr().err


def test_a_hold_that_ended_is_not_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    question = Question()
    question.add("H1")
    question.show()
    question.drop("H1")
    question.drop("H7")
    question.show()
    assert question.about == ""
    assert capsys.readouterr().err.count("release (r)") == 1
