"""Things that take minutes to make, kept in a folder outside the tree under what they were made of.

An entry is built in a folder beside its place and renamed when it is whole: a build that was cut short is
never used.  A lock makes two runs wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kernels.progress import say


def folder() -> Path:
    """The cache: ``$XDG_CACHE_HOME/clew-kernels``."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "clew-kernels"


def key(*parts: object) -> str:
    """A short name for what something is made of."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def entry(name: str, of: str, build: Callable[[Path], None], fresh: bool = False) -> Path:
    """The folder ``name``-``of``, built by ``build`` unless it is there (``fresh``: built anew)."""
    place = folder() / f"{name}-{of}"
    folder().mkdir(parents=True, exist_ok=True)
    with _locked(folder() / f"{name}.lock"):
        if fresh or not place.is_dir():
            _forget(name)
            _build(name, place, build)
    return place


def _build(name: str, place: Path, build: Callable[[Path], None]) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f"{name}-", suffix=".part", dir=folder()))
    try:
        build(scratch)
        scratch.rename(place)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _forget(name: str) -> None:
    """Remove what other ingredients, or builds that were killed, left of ``name``."""
    for old in folder().glob(f"{name}-*"):
        say(f"removing {old}")
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run, which holds {path}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
