"""Recording one design at work, and scoring every rule on that recording."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
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

    ``told``: whether wake-ups, bytes or descriptors tell whose work everything is.
    """

    name: str
    each: int = 1
    ahead: int = 1
    told: bool = True


def build(name: str, folder: Path) -> Path:
    """Compile one of ``programs``."""
    cc = next((found for word in ("cc", "gcc", "clang") if (found := shutil.which(word))), None)
    if cc is None:
        raise SystemExit("bench: a C compiler is needed (Debian: gcc libc6-dev)")
    program = folder / name
    if not program.exists():
        subprocess.run([cc, *_FLAGS, PROGRAMS / f"{name}.c", "-o", program], check=True)
    return program


def record(design: Design, in_flight: int, requests: int, folder: Path) -> tuple[Path, Path]:
    """A recording of so many requests, and what the programs said meanwhile."""
    said, trace = folder / "truth", folder / "trace"
    said.write_bytes(b"")
    os.truncate(said, SIZE)
    shutil.rmtree(trace, ignore_errors=True)
    env = {**os.environ, "CLEW_TRUTH": str(said), "CLEW_HIT": str(build("hit", folder))}
    clients = [
        str(build("clients", folder)),
        str(in_flight),
        str(requests),
        str(design.each),
        str(design.ahead),
    ]
    server = subprocess.Popen([build(design.name, folder)], env=env, cwd=folder, start_new_session=True)
    try:
        _until_it_listens(server, said)
        command = [*clew(), "record", "-q", "--no-stacks", "--scope", "tree", "-p", str(server.pid)]
        command += ["-o", str(trace), "--", *clients]
        subprocess.run(command, env=env, check=True, timeout=_TIMEOUT_S)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    return trace, said


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
