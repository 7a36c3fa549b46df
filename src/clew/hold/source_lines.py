"""From FILE:LINE to the places of its code in the files that may hold it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from clew.code.elf import ElfFile
from clew.code.line_table import Found, find_line
from clew.errors import ClewError, SymbolNotFound, UsageError
from clew.hold.files import CodeFile
from clew.hold.functions import MOST_PLACES, Place, debug_files
from clew.model.rules.rule import SourceLine


def find_source_line(rule: str, wanted: SourceLine, mapped: Sequence[CodeFile]) -> list[Place]:
    """Every place where the code of ``wanted`` begins, inlined copies included.

    Raises SymbolNotFound if there is none, saying which lines near it have code; UsageError if there are
    more than MOST_PLACES.
    """
    places: list[Place] = []
    near: set[int] = set()
    for file in mapped:
        found = _found_in(file, wanted, places)
        near |= found.other_lines
    if not places:
        raise _not_found(rule, wanted, near, len(mapped))
    if len(places) > MOST_PLACES:
        raise UsageError(f"{rule} names {len(places)} places; clew stops at {MOST_PLACES} at most.")
    return places


def _found_in(file: CodeFile, wanted: SourceLine, places: list[Place]) -> Found:
    try:
        with ElfFile.open(file.path) as elf:
            found = find_line(elf, wanted)
            for debug in debug_files(elf) if not (found.addresses or found.other_lines) else ():
                found = find_line(debug, wanted)
            offsets = (elf.file_offset(address) for address in found.addresses)
            places += [Place(file, offset, "") for offset in offsets if offset is not None]
            return found
    except (OSError, ClewError):
        return Found()


def _not_found(rule: str, wanted: SourceLine, near: set[int], looked_at: int) -> SymbolNotFound:
    name = os.fsdecode(wanted.file)
    if not near:
        return SymbolNotFound(
            f"{rule}: no debug information about {name} is in the {looked_at} files that processes have"
            " mapped, or the command will.",
            "Compile with -g, or install the debug symbols (…-dbgsym, …-debuginfo).",
        )
    closest = sorted(near, key=lambda line: (abs(line - wanted.line), line))[:3]
    guesses = tuple(f"at:{name}:{line}" for line in sorted(closest))
    return SymbolNotFound(
        f"{rule}: line {wanted.line} of {name} has no code of its own.",
        f"Lines near it that have: {', '.join(str(line) for line in sorted(closest))}.",
        guesses,
    )
