"""Asking the reader about several files at once, and remembering which of them it gave up on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from clew.code import reader
from clew.hold.files import CodeFile


class Code:
    """What files say of themselves.  ``gave_up``: files beyond the reader's limits, and why."""

    def __init__(self) -> None:
        self.gave_up: dict[bytes, str] = {}

    def ask(self, what: str, files: Sequence[CodeFile], *arguments: Any) -> Iterator[tuple[CodeFile, Any]]:
        """The answer of each file that has one; files that are no programs, or are gone, have none."""
        answers = reader.ask(
            f"{reader.PLACES}:{what}", [reader.Question((file.path,), arguments) for file in files]
        )
        for file, answer in zip(files, answers, strict=True):
            if answer.gave_up:
                self.gave_up[file.name] = answer.refused
            elif not answer.refused:
                yield file, answer.value

    def complaints(self, files: Sequence[CodeFile]) -> list[str]:
        """A sentence for each of ``files`` that was given up on."""
        names = sorted({file.name for file in files} & self.gave_up.keys())
        return [f"{os.fsdecode(name)}: {self.gave_up[name]}." for name in names]
