"""The command line under test, run as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CLEW = (sys.executable, "-c", "from clew.cli.main import run; run()")
"""What ``clew`` is on a command line."""

NO_PRIVILEGE = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs")
"""Before a command: no capability is left, only the files of this very user can be read."""

CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount", "--mount-proc")
"""Before a command: namespaces of its own, as in a container; it is root there, and nobody outside."""

TIMEOUT_S = 90


def clew(
    *words: str | bytes | Path,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT_S,
) -> subprocess.CompletedProcess[bytes]:
    """Run ``clew WORDS`` to its end, behind ``prefix`` (``setpriv …``) if given; no status is checked."""
    return subprocess.run(
        [*prefix, *CLEW, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=None if environment is None else dict(environment),
        timeout=timeout,
        check=False,
    )


def flow_of(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """The one JSON object that a ``--json`` command printed."""
    flow: dict[str, Any] = json.loads(done.stdout)
    return flow


def complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """What a failed command said, once it is sure to be one paragraph of ours and no traceback."""
    said = done.stderr.decode()
    assert "Traceback" not in said, said
    assert said.count("clew: ") >= 1, said
    return said
