"""From a function's name to the places of its code: (file, offset) for breakpoints, or why there are none."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from clew.errors import SymbolNotFound, UsageError
from clew.hold.code import Code
from clew.hold.files import CodeFile, named_files
from clew.kernel.syscalls import numbers as syscall_numbers
from clew.model.rules.glob import Glob
from clew.model.rules.rule import Function
from clew.model.rules.words import did_you_mean, near

MOST_PLACES = 256
_MOST_NAMES = 20_000
_C_LIBRARIES = tuple(map(Glob.parse, ("libc.so.*", "libc-2.*.so", "ld-musl-*")))


@dataclass(frozen=True, slots=True)
class Place:
    """One place to stop at: byte ``offset`` of ``file``, in the function ``name``.

    ``any_call``: just before a system call whose number only the register tells.
    """

    file: CodeFile
    offset: int
    name: str
    any_call: bool = False


def find_function(rule: str, function: Function, mapped: Sequence[CodeFile], code: Code) -> list[Place]:
    """Every place ``function`` names in ``mapped`` files, or in files on disk that its FILE names.

    Raises SymbolNotFound if there is none, with names that are near and with what was looked at; UsageError
    if there are more than MOST_PLACES.
    """
    files = _candidates(function, mapped)
    told = list(code.ask("functions", files, function))
    places = [Place(file, offset, name) for file, found in told for offset, name in found["places"]]
    if not places:
        stripped = [file for file, found in told if found["stripped"]]
        raise _not_found(rule, function, files, stripped, any(found["indirect"] for _, found in told), code)
    if len(places) > MOST_PLACES:
        raise UsageError(
            f"{rule} names {len(places)} functions in {len({p.file.name for p in places})} files;"
            f" clew stops at {MOST_PLACES} at most.",
            "Set a file before the function (call:FILE!FUNCTION), or use fewer stars.",
        )
    return places


def find_exits(program: Glob, mapped: Sequence[CodeFile], code: Code) -> list[Place]:
    """Where processes of ``program`` leave: _exit of every C library, and of static programs of that name.

    exit(3), a return from main and quick_exit(3) all end there.
    """
    leave = Function(Glob.literal(b"_exit"))
    found = {file.name: file for file in mapped}
    found |= {file.name: file for pattern in (*_C_LIBRARIES, program) for file in named_files(pattern)}
    files = [f for f in found.values() if any(g.matches_path(f.name) for g in (*_C_LIBRARIES, program))]
    told = code.ask("functions", files, leave)
    return [Place(file, offset, name) for file, answer in told for offset, name in answer["places"]]


def find_syscall_sites(
    numbers: Collection[int], mapped: Sequence[CodeFile], code: Code, programs: Sequence[Glob] = ()
) -> list[Place]:
    """Places just before the system calls of these ``numbers`` in every C library, and in ``programs``."""
    patterns = [*_C_LIBRARIES, *programs]
    found = {file.name: file for pattern in patterns for file in named_files(pattern)}
    found |= {file.name: file for file in mapped if any(p.matches_path(file.name) for p in patterns)}
    return _sites(list(found.values()), numbers, code)


def find_raw_exits(
    program: Glob, mapped: Sequence[CodeFile], known: Collection[bytes], code: Code
) -> list[Place]:
    """Just before exit_group in programs of that name that leave without a C library (Go's).

    ``known`` are files whose way out was found already.
    """
    found = {file.name: file for file in (*named_files(program), *mapped) if program.matches_path(file.name)}
    number = {syscall_numbers(platform.machine())["exit_group"]}
    places = _sites([file for name, file in found.items() if name not in known], number, code)
    return [place for place in places if not place.any_call]


def _sites(files: Sequence[CodeFile], numbers: Collection[int], code: Code) -> list[Place]:
    told = code.ask("syscalls", files, sorted(numbers))
    return [Place(file, offset, "", any_call) for file, found in told for offset, any_call in found]


def _candidates(function: Function, mapped: Sequence[CodeFile]) -> list[CodeFile]:
    if function.file is None:
        return list(mapped)
    found = [file for file in mapped if function.file.matches_path(file.name)]
    known = {file.name for file in found}
    return found + [file for file in named_files(function.file) if file.name not in known]


def _not_found(
    rule: str, function: Function, files: Sequence[CodeFile], stripped: Sequence[CodeFile], indirect: bool,
    code: Code,
) -> SymbolNotFound:  # fmt: skip
    wanted = function.name.source
    if function.file is not None and not files:
        return SymbolNotFound(
            f"{rule}: no process has a file {function.file.source!r} mapped, and none is installed.",
            "Give its path, such as call:/usr/bin/program!function.",
        )
    guesses = tuple(near(wanted, _names_like(wanted, files, code)))
    cause = f"No function {wanted!r} is in {_where(files)}."
    if stripped and len(files) <= 16:
        named = " and ".join(os.fsdecode(file.name) for file in stripped[:3])
        verb = "is" if len(stripped) == 1 else "are"
        cause += f" {named} {verb} stripped: only exported functions have names."
    if indirect:
        cause += " It is an indirect function (IFUNC): which code it means is decided when a program starts."
    cause = " ".join([cause, *code.complaints(files)])
    remedy = did_you_mean(guesses) or "Debug symbols (…-dbgsym, …-debuginfo) name the functions inside."
    return SymbolNotFound(cause, remedy, guesses)


def _where(files: Sequence[CodeFile]) -> str:
    if len(files) == 1:
        return os.fsdecode(files[0].name)
    return f"the {len(files)} files that processes have mapped"


def _names_like(wanted: str, files: Sequence[CodeFile], code: Code) -> set[str]:
    """Names worth comparing."""
    found: set[str] = set()
    for _, names in code.ask("like", [file for file in files if file.name not in code.gave_up], wanted):
        found.update(names)
        if len(found) > _MOST_NAMES:
            break
    return found
