"""File, line and inlined functions of places in the code, by DWARF, in a process of its own.

DWARF of a traced program is hostile and large: what it does to the reader (a crash, an endless loop, all
memory) must not reach the trace.  The work is asked for once, for all places together (``place``).
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

_WORKER = "clew.code.lines_worker"
# The worker limits its processor time for each file by itself; this ends one that waits for something.
_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Question:
    """Places asked about in one file: ELF addresses.  ``build_id`` b"": do not check."""

    file: Path
    build_id: bytes
    addresses: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One source position.  Of several for one address all but the last are of inlined functions."""

    function: str
    file: str
    line: int


Answer = dict[int, tuple[Line, ...]]


def place(questions: Sequence[Question]) -> list[Answer]:
    """For each question its addresses' lines, innermost first; addresses that nothing is known of are absent.

    A file that brings the worker down, or keeps it busy too long, yields {}; the others are answered.
    """
    answers: list[Answer] = []
    while len(answers) < len(questions):
        done = _ask(questions[len(answers) :])
        answers += done
        if len(answers) < len(questions):
            answers.append({})
    return answers


def _ask(questions: Sequence[Question]) -> list[Answer]:
    """Answers to the first questions, up to the one that the worker did not survive."""
    request = [
        {"file": os.fsdecode(q.file), "build_id": q.build_id.hex(), "addresses": q.addresses}
        for q in questions
    ]
    with tempfile.TemporaryFile() as stdin:
        stdin.write(json.dumps(request).encode())
        stdin.seek(0)
        with _worker(stdin) as worker:
            try:
                return [_answer(line) for line in islice(_lines(worker), len(questions))]
            finally:
                worker.kill()


def _worker(stdin: IO[bytes]) -> subprocess.Popen[bytes]:
    # -P: a traced program may have left a module of our worker's name in the current directory.
    command = [sys.executable, "-P", "-m", _WORKER]
    path = os.pathsep.join(entry for entry in sys.path if Path(entry).is_absolute())
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )


def _lines(worker: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Whole lines of its output, until it ends or says nothing for too long."""
    assert worker.stdout is not None
    fd, rest = worker.stdout.fileno(), b""
    while select.select([fd], [], [], _DEADLINE_S)[0] and (data := os.read(fd, 1 << 16)):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def _answer(line: bytes) -> Answer:
    rows: dict[str, list[tuple[str, str, int]]] = json.loads(line)
    return {int(address): tuple(Line(*entry) for entry in found) for address, found in rows.items()}
