"""What is being done, on stderr, and commands whose words are shown only if they fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_SHOWN_LINES = 20


class StepFailed(Exception):
    """A command of ours failed; the message ends with what it said last."""


def say(text: str) -> None:
    """One line of progress."""
    print(f"kernels: {text}", file=sys.stderr, flush=True)


def run(
    command: Sequence[str | Path],
    log: Path,
    *,
    tries: int = 1,
    timeout: float = 900,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run ``command``, its output added to ``log``, up to ``tries`` times.  Raises StepFailed."""
    words = [str(word) for word in command]
    for attempt in range(1, tries + 1):
        failed = _run_once(words, log, timeout, environment)
        if not failed:
            return
        if attempt < tries:
            say(f"{words[0]}: {failed}; once more")
    raise StepFailed(f"{' '.join(words)}: {failed}; the end of {log}:\n{last_lines(log)}")


def _run_once(words: list[str], log: Path, timeout: float, environment: Mapping[str, str] | None) -> str:
    with log.open("ab") as out:
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"not done after {timeout:.0f} s"
        except OSError as error:
            return error.strerror or str(error)
    return f"exit status {done.returncode}" if done.returncode else ""


def last_lines(path: Path, count: int = _SHOWN_LINES) -> str:
    """The last lines of a log, as far as they can be shown."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    shown = text.splitlines()[-count:]
    return "\n".join("".join(c if c.isprintable() or c == "\t" else "?" for c in line) for line in shown)
