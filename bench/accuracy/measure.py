"""Recording one design at work, and scoring every rule on that recording."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.accuracy.rules import Judged, rules
from bench.accuracy.score import Score, score
from bench.accuracy.truth import SIZE, read_statements, truth_of
from bench.record_pairs import clew
from clew.flow.follow import find
from clew.trace.reader import Trace

PROGRAMS = Path(__file__).parent / "programs"
_FLAGS = ("-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread")
_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Design:
    """One server.  ``each`` requests are made on a connection, ``ahead`` of them before the first answer.

    ``what`` describes it; ``program`` is its source where that is not called the same; ``queue`` what --queue
    is given; ``told``: whether wake-ups, bytes or descriptors tell whose work everything is.
    """

    name: str
    what: str
    each: int = 1
    ahead: int = 1
    told: bool = True
    program: str = ""
    queue: tuple[str, ...] = ()


def build(name: str, folder: Path) -> Path:
    """Compile one of ``programs``."""
    cc = next((found for word in ("cc", "gcc", "clang") if (found := shutil.which(word))), None)
    if cc is None:
        raise SystemExit("bench: a C compiler is needed (Debian: gcc libc6-dev)")
    program = folder / name
    if not program.exists():
        subprocess.run([cc, *_FLAGS, PROGRAMS / f"{name}.c", "-o", program], check=True)
    return program


@dataclass(frozen=True, slots=True)
class Serving:
    """A server at work: its process, the file that it and its clients write to, how clients are run."""

    pid: int
    said: Path
    env: dict[str, str]
    clients: tuple[str, ...]


@contextmanager
def serving(design: Design, in_flight: int, requests: int, folder: Path) -> Iterator[Serving]:
    """The design's server, as long as the block lasts."""
    said = folder / "truth"
    said.write_bytes(b"")
    os.truncate(said, SIZE)
    env = {**os.environ, "CLEW_TRUTH": str(said), "CLEW_HIT": str(build("hit", folder))}
    numbers = (in_flight, requests, design.each, design.ahead)
    clients = (str(build("clients", folder)), *map(str, numbers))
    server = subprocess.Popen(
        [build(design.program or design.name, folder)], env=env, cwd=folder, start_new_session=True
    )
    try:
        _until_it_listens(server, said)
        yield Serving(server.pid, said, env, clients)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def record(design: Design, in_flight: int, requests: int, folder: Path) -> tuple[Path, Path]:
    """A recording of so many requests, and what the programs said meanwhile."""
    trace = folder / "trace"
    shutil.rmtree(trace, ignore_errors=True)
    with serving(design, in_flight, requests, folder) as server:
        command = [*clew(), "record", "-q", "--no-stacks", "--scope", "tree", "-p", str(server.pid)]
        command += ["--queue", *design.queue] if design.queue else []
        command += ["-o", str(trace), "--", *server.clients]
        subprocess.run(command, env=server.env, check=True, timeout=_TIMEOUT_S)
    return trace, server.said


def _until_it_listens(server: subprocess.Popen[bytes], said: Path) -> None:
    while server.poll() is None:
        with said.open("rb") as file:
            if int.from_bytes(file.read(16)[8:], "little"):
                return
        time.sleep(0.01)
    raise SystemExit("bench: a server of the accuracy bench did not start")


def scores(trace: Path, said: Path) -> list[Score]:
    """Every rule on one recording."""
    found = find(Trace(trace))
    judged = Judged(found, truth_of(read_statements(said), found))
    return [score(judged, rule) for rule in rules(judged)]


def measure(design: Design, in_flight: int, requests: int) -> list[Score]:
    """Record and score."""
    with tempfile.TemporaryDirectory(prefix="clew-accuracy-") as folder:
        return scores(*record(design, in_flight, requests, Path(folder)))
