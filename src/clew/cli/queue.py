"""``--queue PUT TAKE``: from the functions of a queue in memory to the places where its jobs are seen."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from clew.engine.engine import JobPoint
from clew.errors import RuleError
from clew.hold.code import Code
from clew.hold.files import CodeFile, mapped_files, program_files
from clew.hold.functions import find_function
from clew.model.rules import Function, parse_target

_JOB = re.compile(r",\s*(?:ret|arg=([1-6]))\Z")


def job_points(pairs: Sequence[Sequence[str]], command: Sequence[bytes]) -> tuple[JobPoint, ...]:
    """Every place that ``pairs`` of PUT and TAKE name.  Raises RuleError, SymbolNotFound."""
    functions = [_function(text, at > 0) for pair in pairs for at, text in enumerate(pair)]
    files = _files(command)
    code = Code()
    return tuple(point for function in functions for point in _points(*function, files, code))


def _function(text: str, takes: bool) -> tuple[str, Function, bool, int]:
    """The function that is named, and where in a call of it the job is (0: what it returns)."""
    match = _JOB.search(text)
    if match is None:
        raise RuleError(
            text, len(text), "This does not say where the job is.", "Write call:FUNCTION,arg=N, or ,ret."
        )
    argument = int(match[1] or 0)
    if not argument and not takes:
        raise RuleError(text, match.start(), "What puts a job has it as an argument.", "Write ,arg=N.")
    rule = parse_target(text[: match.start()])
    if not isinstance(rule.subject, Function) or rule.conditions or rule.limit is not None:
        raise RuleError(text, 0, "A queue is named by two functions alone.", "Write call:FUNCTION,arg=N.")
    return rule.text, rule.subject, takes, argument


def _files(command: Sequence[bytes]) -> list[CodeFile]:
    found = {file.name: file for name in command for file in program_files(name)}
    return [*found.values(), *(file for file in mapped_files() if file.name not in found)]


def _points(
    text: str, function: Function, takes: bool, argument: int, files: Sequence[CodeFile], code: Code
) -> Iterator[JobPoint]:
    for place in find_function(text, function, files, code):
        yield JobPoint(os.fsencode(place.file.path), place.offset, takes, argument)
