"""What the kernel said to a refusal, as lines for people."""

from __future__ import annotations

from clew.view.escape import visible

_LAST = 25
"""Lines shown: a verifier's objection, and the instructions before it."""


def last_words(log: str) -> list[str]:
    """The last lines of a log, safe to print."""
    return [visible(line) for line in log.strip().splitlines()[-_LAST:]]
