"""File, line and inlined functions of places in the code, by DWARF, in a process of its own.

DWARF of a traced program is hostile and large: what it does to the reader (a crash, an endless loop, all
memory) must not reach the trace.  The work is asked for once, for all places together (``place``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_WORKER = "clew.stack.lines_worker"
_DEADLINE_S = 60.0


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
    # -P: a traced program may have left a module of ours in the current directory.
    command = [sys.executable, "-P", "-m", _WORKER]
    path = os.pathsep.join(entry for entry in sys.path if entry and Path(entry).is_absolute())
    worker = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        output, _ = worker.communicate(json.dumps(request).encode(), timeout=_DEADLINE_S * len(questions))
    except subprocess.TimeoutExpired:
        worker.kill()
        output, _ = worker.communicate()
    return [_answer(line) for line in output.splitlines(keepends=True) if line.endswith(b"\n")]


def _answer(line: bytes) -> Answer:
    rows: dict[str, list[tuple[str, str, int]]] = json.loads(line)
    return {int(address): tuple(Line(*entry) for entry in found) for address, found in rows.items()}
