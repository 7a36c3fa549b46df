"""The programs of ``tests/programs``: built on demand, run, and asked what they did.

A source begins with lines ``// key: value``: ``hops`` (how many of each kind it testifies: ``message=2``, or
``message>=2``), ``build`` (more compiler flags), ``variants`` (``stripped``: a copy without symbols is run
too), ``needs`` (``root``, ``ipv6``).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support import built
from tests.support.testimony import Testimony, read_testimony

SOURCES = Path(__file__).resolve().parent.parent / "programs"
_FLAGS = ("-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread")
_IPV6 = Path("/proc/sys/net/ipv6/conf/lo")
_RUN_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Source:
    """One program's source and what its first lines say about it."""

    path: Path
    expected: tuple[tuple[str, str, int], ...]
    flags: tuple[str, ...]
    variants: tuple[str, ...]
    needs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name to give ``build``."""
        return self.path.stem

    def lack(self) -> str:
        """What this machine lacks to run it, as a sentence; "" if nothing."""
        if "root" in self.needs and os.geteuid() != 0:
            return "this program changes its user, which only root may"
        if "ipv6" in self.needs and not _IPV6.exists():
            return "this machine has no IPv6"
        return ""


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run of a program, by itself or under a command that ran it."""

    status: int
    stdout: bytes
    stderr: bytes
    testimony: Testimony


def sources() -> tuple[Source, ...]:
    """Every program there is, by name."""
    found = sorted([*SOURCES.glob("*.c"), *SOURCES.glob("*.cc")])
    return tuple(_source(path) for path in found)


def source(name: str) -> Source:
    """The program of that name.  Raises KeyError if there is none."""
    return {each.name: each for each in sources()}[name]


def build(name: str, variant: str = "") -> Path:
    """Compile the program (or its ``stripped`` copy) unless that was done already; returns the executable.

    The file's name is the program's own, so that a task's comm is what a reader expects.  Raises
    subprocess.CalledProcessError if the compiler refuses it.
    """
    origin = source(name)
    folder = _cache_folder() / _fingerprint(origin, variant)
    executable = folder / name
    if not executable.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _compile(origin, variant, executable)
    return executable


def run_with_testimony(
    program: Path,
    folder: Path,
    *,
    arguments: Sequence[str] = (),
    under: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Run:
    """Run a built program to its end in ``folder``, an empty one, and read its testimony there.

    ``under`` is a command that runs it, such as ``clew follow --``; status and output are then that
    command's.  ``environment`` is added to this process's.  Raises subprocess.TimeoutExpired.
    """
    told = folder / "testimony"
    told.touch()
    done = subprocess.run(
        [*under, program, *arguments],
        cwd=folder,
        env={**os.environ, **(environment or {}), "CLEW_TESTIMONY": str(told)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_RUN_TIMEOUT_S,
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr, read_testimony(told))


def _source(path: Path) -> Source:
    said: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if not line.startswith("// "):
            break
        key, _, values = line[3:].partition(": ")
        said[key] = values.split()
    expected = tuple(_expectation(word) for word in said["hops"])
    variants = ("", *said.get("variants", ()))
    return Source(path, expected, tuple(said.get("build", ())), variants, tuple(said.get("needs", ())))


def _expectation(word: str) -> tuple[str, str, int]:
    relation = ">=" if ">=" in word else "="
    kind, _, count = word.partition(relation)
    return kind, relation, int(count)


def _fingerprint(origin: Source, variant: str) -> str:
    told = hashlib.sha256()
    for path in (origin.path, *sorted(SOURCES.glob("*.h"))):
        told.update(path.read_bytes())
    told.update(repr((_FLAGS, origin.flags, variant, _compiler_version())).encode())
    return f"{origin.name}-{told.hexdigest()[:16]}"


def _compile(origin: Source, variant: str, executable: Path) -> None:
    compiler = "c++" if origin.path.suffix == ".cc" else "cc"
    with tempfile.TemporaryDirectory(dir=executable.parent) as scratch:
        fresh = Path(scratch) / origin.name
        subprocess.run([compiler, *_FLAGS, *origin.flags, origin.path, "-o", fresh], check=True)
        if variant == "stripped":
            subprocess.run(["strip", fresh], check=True)
        # A rename, so that a test run beside this one never executes half a file.
        fresh.rename(executable)


@cache
def _compiler_version() -> str:
    return subprocess.run(["cc", "--version"], check=True, capture_output=True, text=True).stdout


def _cache_folder() -> Path:
    """Of this user alone, and kept between runs; ``CLEW_TEST_PROGRAMS`` names another place."""
    chosen = os.environ.get("CLEW_TEST_PROGRAMS")
    return Path(chosen) if chosen else built.folder()
