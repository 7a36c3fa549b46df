"""Errors over the control socket: the same class with the same attributes arrives."""

from __future__ import annotations

from typing import Any

from clew import errors
from clew.errors import ClewError, HoldError


def error_wire(error: ClewError) -> dict[str, Any]:
    """The answer that says that a request failed."""
    more = {key: value for key, value in vars(error).items() if key not in ("cause", "remedy")}
    return {
        "ok": False,
        "cause": error.cause,
        "remedy": error.remedy,
        "kind": type(error).__name__,
        "more": more,
    }


def error_from_wire(answer: dict[str, Any]) -> ClewError:
    """The opposite; a HoldError where the class is not one of ``clew.errors``."""
    kind = getattr(errors, str(answer.get("kind")), HoldError)
    kind = kind if isinstance(kind, type) and issubclass(kind, ClewError) else HoldError
    made: ClewError = kind.__new__(kind)
    ClewError.__init__(made, str(answer["cause"]), str(answer["remedy"]))
    more = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in answer.get("more", {}).items()
    }
    vars(made).update(more)
    return made
