"""What stands at the addresses of a module: asked of the reader, by symbol tables and then by DWARF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clew.code import naming, reader
from clew.code.debug_files import debug_files_of, has_dwarf
from clew.code.elf import ElfFile
from clew.code.reader import Question
from clew.stack.modules import Module

_LINES_SECONDS = 60  # the DWARF of a browser is indexed before it is asked


@dataclass(frozen=True, slots=True)
class Line:
    """One source position.  Of several for one address all but the last are of inlined functions."""

    function: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Place:
    """``name`` of the function by the symbol tables; ``lines`` innermost first, () where nothing is known."""

    name: str = ""
    lines: tuple[Line, ...] = ()


Asked = Sequence[tuple[Module, Sequence[int]]]
"""Modules, each with the ELF addresses asked about."""


def places(asked: Asked, with_lines: bool, debug_roots: Sequence[Path]) -> list[Mapping[int, Place]]:
    """For each module its addresses' places.

    A file that the reader cannot read in its limits leaves its addresses without names, and says so in
    ``Module.problem``; the others have theirs.
    """
    debug = [next(debug_files_of(module.build_id, debug_roots), None) for module, _ in asked]
    names = _names(asked, debug)
    lines = _lines(asked, debug) if with_lines else [{} for _ in asked]
    return [
        {address: Place(name, found.get(address, ())) for address, name in zip(addresses, named, strict=True)}
        for (_, addresses), named, found in zip(asked, names, lines, strict=True)
    ]


def _names(asked: Asked, debug: Sequence[ElfFile | None]) -> list[list[str]]:
    questions = {
        number: Question(tuple(_files(module, apart)), (list(addresses),))
        for number, ((module, addresses), apart) in enumerate(zip(asked, debug, strict=True))
        if module.file is not None and module.elf is not None
    }
    answers = dict(zip(questions, reader.ask(f"{reader.NAMES}:names", [*questions.values()]), strict=True))
    found = []
    for number, (module, addresses) in enumerate(asked):
        answer = answers.get(number)
        if answer is not None and answer.refused:
            module.problem = module.problem or f"no names: {answer.refused}"
        names = answer.value if answer is not None else None
        if module.file is None and module.elf is not None:
            names = naming.names(module.elf, addresses)  # the vDSO: the kernel's own
        found.append(_texts(names, len(addresses)))
    return found


def _files(module: Module, debug: ElfFile | None) -> list[Path]:
    assert module.file is not None
    return [module.file, Path(debug.name)] if debug else [module.file]


def _lines(asked: Asked, debug: Sequence[ElfFile | None]) -> list[dict[int, tuple[Line, ...]]]:
    questions = {}
    for number, ((module, addresses), apart) in enumerate(zip(asked, debug, strict=True)):
        file = _with_dwarf(module, apart)
        if file is not None:
            questions[number] = Question((file,), (module.build_id.hex(), list(addresses)))
    told = reader.ask(f"{reader.NAMES}:lines", [*questions.values()], _LINES_SECONDS)
    found: list[dict[int, tuple[Line, ...]]] = [{} for _ in asked]
    for number, answer in zip(questions, told, strict=True):
        module, addresses = asked[number]
        if answer.refused:
            module.problem = module.problem or f"no lines: {answer.refused}"
        elif isinstance(answer.value, list):
            rows = zip(addresses, answer.value, strict=False)
            found[number] = {address: tuple(Line(*row) for row in some) for address, some in rows}
    return found


def _with_dwarf(module: Module, debug: ElfFile | None) -> Path | None:
    """The file that holds the module's DWARF, if one does."""
    if module.elf is not None and has_dwarf(module.elf):
        return module.file
    return Path(debug.name) if debug is not None and has_dwarf(debug) else None


def _texts(value: object, count: int) -> list[str]:
    """As many names as were asked for, whatever was answered."""
    given = [str(name) for name in value[:count]] if isinstance(value, list) else []
    return [*given, *[""] * (count - len(given))]
