"""Acting as an ordinary user, in a process of its own and a folder that user may write to."""

from __future__ import annotations

import ctypes as C
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# All that an ordinary user's part may import: the interpreter may lie where that user cannot read.
import capstone  # type: ignore[import-untyped]  # noqa: F401

import clew.api
import clew.hold.backtrace
import clew.hold.holder
import clew.hold.remote  # noqa: F401
from clew.engine.ptrace.binary import executable

NOBODY = 65534
_PR_SET_DUMPABLE = 4


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder with ``work`` and ``cache`` in it, which NOBODY owns; the tracer is in the cache."""
    with tempfile.TemporaryDirectory(prefix="clew-nobody-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        for place in ("work", "cache", "cache/clew", "run"):
            (path / place).mkdir(mode=0o700)
        tracer = shutil.copy(executable(), path / "cache" / "clew")
        for place in ("work", "cache", "cache/clew", "run"):
            os.chown(path / place, NOBODY, NOBODY)
        os.chown(tracer, NOBODY, NOBODY)
        yield path


def as_nobody(folder: Path, act: Callable[[Path], None]) -> None:
    """Run ``act(folder / "work")`` as an ordinary user (oneself, if one is); what it asserts must hold."""
    pid = os.fork()
    if pid == 0:
        _act(folder, act)
    assert os.waitpid(pid, 0)[1] == 0, "see the traceback above"


def _act(folder: Path, act: Callable[[Path], None]) -> None:
    try:
        homes = {
            "HOME": "work",
            "XDG_CACHE_HOME": "cache",
            "XDG_RUNTIME_DIR": "run",
            "XDG_CONFIG_HOME": "work",
        }
        os.environ.update({name: str(folder / place) for name, place in homes.items()})
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            # Who changes his user id without an exec may not be traced by that user (prctl(2)).
            C.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        act(folder / "work")
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)
