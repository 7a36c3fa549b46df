"""Programs that are left out of a recording: one meaning of --exclude for every engine.

A program goes by what exec: rules go by: the last component of the file that runs, of the path that was given
to exec, and of argv[0].  A whole path would not be one fact: each mount namespace has its own.
"""

from __future__ import annotations

import os

from clew.errors import UsageError
from clew.model.rules.glob import Glob
from clew.model.rules.kernel import GLOB_LENGTH

MAX_EXCLUSIONS = 16  # EXCLUSIONS of exclude.bpf.h


def parse_exclusions(texts: tuple[bytes, ...]) -> list[Glob]:
    """The patterns of --exclude.  Raises RuleError or UsageError for what the kernel cannot compare."""
    if len(texts) > MAX_EXCLUSIONS:
        raise UsageError(
            f"More than {MAX_EXCLUSIONS} programs are to be left out.", "Put a glob in place of several."
        )
    globs = [Glob.parse(os.fsdecode(text)) for text in texts]
    for glob in globs:
        if glob.whole_path:
            raise UsageError(
                f"--exclude {glob.source!r} is a path.", "Give the name of a program, without folders."
            )
        if len(glob.elements) > GLOB_LENGTH:
            raise UsageError(
                f"--exclude {glob.source!r} is too long.", f"A pattern has up to {GLOB_LENGTH} characters."
            )
    return globs
