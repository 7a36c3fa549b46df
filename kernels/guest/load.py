"""Give every program of every object to this kernel, one by one, and show why it refuses one."""

from __future__ import annotations

import sys
from pathlib import Path

from clew.engine.bpf.libbpf import Object
from clew.engine.bpf.parts import PARTS
from clew.errors import EngineError

_LINES = 25


def main(folders: list[str]) -> int:
    """Load all objects of ``folders``, showing each program; 1 if one was refused."""
    objects = sorted(path for folder in folders for path in Path(folder).glob("*.bpf.o"))
    if not objects:
        print("no objects to load")
        return 1
    refused = 0
    for path in objects:
        for program in programs(path):
            why = refusal(path, program)
            refused += bool(why)
            print(f"{'REFUSED' if why else 'ok     '} {path.parent.name}/{path.name} {program}{why}")
    print(f"{refused} programs refused")
    return min(refused, 1)


def all_of(folder: Path) -> str:
    """How many programs of ``folder`` loaded, of the objects that this kernel is to have.

    What a part needs and the kernel lacks is told.  AssertionError if a program was refused.
    """
    loaded = 0
    wrong: list[str] = []
    lacking: list[str] = []
    for part in PARTS:
        way = part.way()
        if way is None:
            lacking.append(f"; {part.name}: the kernel has no {' or '.join(part.lacks())}")
            continue
        path = folder / way.path.name
        for program in programs(path):
            refused = refusal(path, program)
            loaded += not refused
            wrong += [f"{path.name} {program}{refused}"] if refused else []
    assert not wrong, "\n".join(wrong)
    return f"{loaded} programs" + "".join(lacking)


def programs(path: Path) -> list[str]:
    """The programs of an object."""
    with Object(path) as probe:
        return probe.programs()


def refusal(path: Path, program: str) -> str:
    """Why the kernel refuses the program, with the verifier's last lines; "" if it takes it."""
    try:
        load_one(path, program)
    except EngineError as error:
        lines = error.log.strip().splitlines()[-_LINES:]
        return f": {error.cause}\n" + "\n".join(f"    {line}" for line in lines)
    return ""


def load_one(path: Path, program: str) -> None:
    """Load one program of an object, and drop it again.  Raises EngineError with the verifier's log."""
    with Object(path) as probe:
        for other in probe.programs():
            if other != program:
                probe.skip(other)
        probe.load()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
