"""Give every program of every object to this kernel, one by one, and show why it refuses one."""

from __future__ import annotations

import sys
from pathlib import Path

from clew.engine.bpf.libbpf import Object
from clew.errors import ClewError, EngineError

_LINES = 25


def main(folders: list[str]) -> int:
    """Load all objects of ``folders``; the number of programs that were refused."""
    objects = sorted(path for folder in folders for path in Path(folder).glob("*.bpf.o"))
    if not objects:
        print("no objects to load")
        return 1
    refused = sum(_show(path, program) for path in objects for program in _programs(path))
    print(f"{refused} programs refused")
    return min(refused, 1)


def _programs(path: Path) -> list[str]:
    with Object(path) as probe:
        return probe.programs()


def _show(path: Path, program: str) -> int:
    try:
        load_one(path, program)
    except ClewError as error:
        log = error.log.strip().splitlines() if isinstance(error, EngineError) else []
        print(f"REFUSED {path.parent.name}/{path.name} {program}: {error.cause}")
        print("\n".join(f"    {line}" for line in log[-_LINES:]))
        return 1
    print(f"ok      {path.parent.name}/{path.name} {program}")
    return 0


def load_one(path: Path, program: str) -> None:
    """Load one program of an object, and drop it again.  Raises EngineError with the verifier's log."""
    with Object(path) as probe:
        for other in probe.programs():
            if other != program:
                probe.skip(other)
        probe.load()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
