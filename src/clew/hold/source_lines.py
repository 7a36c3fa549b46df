"""From FILE:LINE to the places of its code in the files that may hold it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from clew.errors import SymbolNotFound, UsageError
from clew.hold.code import Code
from clew.hold.files import CodeFile
from clew.hold.functions import MOST_PLACES, Place
from clew.model.rules.rule import SourceLine


def find_source_line(rule: str, wanted: SourceLine, mapped: Sequence[CodeFile], code: Code) -> list[Place]:
    """Every place where the code of ``wanted`` begins, inlined copies included.

    Raises SymbolNotFound if there is none, saying which lines near it have code; UsageError if there are
    more than MOST_PLACES.
    """
    told = list(code.ask("source_line", mapped, wanted))
    places = [Place(file, offset, "") for file, found in told for offset in found["offsets"]]
    if not places:
        raise _not_found(rule, wanted, {line for _, found in told for line in found["near"]}, mapped, code)
    if len(places) > MOST_PLACES:
        raise UsageError(f"{rule} names {len(places)} places; clew stops at {MOST_PLACES} at most.")
    return places


def _not_found(
    rule: str, wanted: SourceLine, near: set[int], mapped: Sequence[CodeFile], code: Code
) -> SymbolNotFound:
    complaints = "".join(f" {each}" for each in code.complaints(mapped))
    name = os.fsdecode(wanted.file)
    if not near:
        return SymbolNotFound(
            f"{rule}: no debug information about {name} is in the {len(mapped)} files that processes have"
            f" mapped, or the command will.{complaints}",
            "Compile with -g, or install the debug symbols (…-dbgsym, …-debuginfo).",
        )
    closest = sorted(near, key=lambda line: (abs(line - wanted.line), line))[:3]
    guesses = tuple(f"at:{name}:{line}" for line in sorted(closest))
    return SymbolNotFound(
        f"{rule}: line {wanted.line} of {name} has no code of its own.{complaints}",
        f"Lines near it that have: {', '.join(str(line) for line in sorted(closest))}.",
        guesses,
    )
