"""What can join two activations."""

from __future__ import annotations

from enum import IntEnum


class EdgeKind(IntEnum):
    """What an edge is."""

    MESSAGE = 0
    WAKE = 1
    SPAWN = 2
    EXEC = 3
    EXIT = 4
    SIGNAL = 5
    OWN = 6  # no hop: what a task does by itself comes from what it was born for
    CONNECT = 7
    CONTINUED = 8  # no hop: the task, or its process, goes on with what it had begun
    AFTER = 9  # no hop: what a task does after an answer


class Evidence(IntEnum):
    """What says that an edge left the activation it is said to have left; the lower, the surer."""

    OBSERVED = 0
    CONTINUED = 1
    AMBIGUOUS = 2
    ALTERNATIVE = 3  # another activation that an ambiguous edge may have left
