"""Locks that a language's run time takes behind the program's back.

CPython's GIL is a condition variable every thread waits on: whoever releases it wakes another thread, and
nothing is handed over.  It lies in the run time's own state, the exported object ``_PyRuntime``, so its futex
words are known even in a stripped interpreter.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from clew.code import reader
from clew.code.elf import ElfError, ElfFile
from clew.model.frame import Mapping as FileMapping

_STATE = "_PyRuntime"


def resource_words(
    mappings: Mapping[int, list[FileMapping]], pids: Iterable[int]
) -> dict[int, list[tuple[int, int]]]:
    """For each of ``pids`` that runs CPython, the address ranges of the run time's state."""
    known: dict[bytes, tuple[ElfFile, int, int] | None] = {}
    words: dict[int, list[tuple[int, int]]] = {}
    for pid in pids:
        for mapping in mappings.get(pid, ()):
            if b"python" not in mapping.path.rpartition(b"/")[2]:
                continue
            if mapping.path not in known:
                known[mapping.path] = _state(mapping.path)
            found = known[mapping.path]
            bias = found[0].bias(mapping.start, mapping.file_offset) if found else None
            if found and bias is not None:
                words.setdefault(pid, []).append((bias + found[1], bias + found[1] + found[2]))
    return words


def _state(path: bytes) -> tuple[ElfFile, int, int] | None:
    try:
        file = Path(os.fsdecode(path))
        elf = ElfFile.open(file)
        (answer,) = reader.ask(f"{reader.NAMES}:object_named", [reader.Question((file,), (_STATE,))])
        return (elf, int(answer.value[0]), int(answer.value[1])) if answer.value else None
    except (ElfError, OSError):
        return None
