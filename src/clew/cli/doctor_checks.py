"""What ``clew doctor`` looks at, in groups, and which engine that lets ``--engine auto`` pick."""

from __future__ import annotations

import ctypes as C
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clew.engine.bpf.libbpf import library, objection
from clew.engine.bpf.parts import CRASH_HOLDS, HOLDS, LONE_HOLDS, RECORDING, Part
from clew.errors import ClewError, EngineError
from clew.kernel import features
from clew.kernel.features import Check

_DEBUG_FILES = Path("/usr/lib/debug/.build-id")
_SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


@dataclass(frozen=True, slots=True)
class Group:
    """Checks that serve one purpose.  ``engine`` names the engine that works if all of them are ok."""

    title: str
    checks: tuple[Check, ...]
    engine: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing lacks."""
        return all(check.ok for check in self.checks)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The engine that ``auto`` picks ("" for none), and why."""

    engine: str
    reason: str


_PARTS_OF = {"bpf": frozenset({RECORDING.name, HOLDS.name})}
"""The checks of an engine that tell of one part of it: what another part lacks is no matter."""


def examine() -> tuple[Group, ...]:
    """Make every check, on this machine, now.  Takes about a second: the probes are really loaded."""
    granted = (*features.bpf_checks(), libbpf())
    return (
        Group(
            "bpf engine: the whole machine, as root",
            (*granted, part(RECORDING, granted), part(HOLDS, granted)),
            "bpf",
        ),
        Group("ptrace engine: your own programs, as anyone", (features.ptrace_child(), tracer()), "ptrace"),
        Group(
            "holding",
            (
                features.uprobes(),
                features.fork_signal(),
                part(CRASH_HOLDS, granted),
                part(LONE_HOLDS, granted),
                features.ptrace_others(),
            ),
        ),
        Group("debuggers", (_tool("gdb", "gdb", "--version"), _tool("lldb", "lldb", "--version"))),
        Group("backtraces", (drgn_installed(), debug_files())),
        Group("libvirt, for `clew demo libvirt`", tuple(_libvirt_checks())),
        Group("beside clew", (features.tracefs(),)),
    )


def verdict(groups: Iterable[Group], job: str = RECORDING.name) -> Verdict:
    """Which engine ``auto`` picks, given what was found, for the job of the part called ``job``."""
    reasons: list[str] = []
    for group in groups:
        others = _PARTS_OF.get(group.engine, frozenset()) - {job}
        lacks = [check for check in group.checks if not check.ok and check.name not in others]
        if group.engine and not lacks:
            return Verdict(group.engine, "; ".join([*reasons, "all it needs is here"]))
        if group.engine:
            reasons.append(f"not {group.engine}: {lacks[0].name}: {lacks[0].detail}")
    return Verdict("", "; ".join(reasons))


def tracer() -> Check:
    """The small program that makes the ptrace engine's stops."""
    try:
        from clew.engine.ptrace.binary import executable

        return Check("tracer", True, str(executable()))
    except ImportError:
        return Check("tracer", False, "not in this version of clew", "Run clew as root, with the bpf engine.")
    except ClewError as error:
        return Check("tracer", False, error.cause, error.remedy)


def libbpf() -> Check:
    """The library that loads our probes."""
    try:
        lib = library()
    except EngineError as error:
        return Check("libbpf", False, error.cause, error.remedy)
    lib.libbpf_version_string.restype = C.c_char_p
    return Check("libbpf", True, f"libbpf.so.1, {lib.libbpf_version_string().decode(errors='replace')}")


def part(one: Part, granted: Iterable[Check] = ()) -> Check:
    """Whether the kernel takes this part of the bpf engine: loads every program of it, and attaches none."""
    lack = next((check.name for check in granted if not check.ok), "")
    if lack:
        return Check(one.name, False, f"not tried without {lack}")
    try:
        with one.open() as probe:
            one.load(probe)
            return Check(one.name, True, f"{len(probe.programs())} programs loaded from {probe.path.name}")
    except EngineError as error:
        said = f"{error.cause} {objection(error.log)}".strip()
        return Check(one.name, False, said, error.remedy, error.log)
    except ClewError as error:
        return Check(one.name, False, error.cause, error.remedy)


def drgn_installed() -> Check:
    """The library that unwinds stacks and reads debug information."""
    try:
        import drgn
    except ImportError as error:
        return Check("drgn", False, str(error), "pip install drgn")
    return Check("drgn", True, str(drgn.__version__))


def debug_files() -> Check:
    """Whether file and line of system libraries can be told, or only their exported functions."""
    if os.environ.get("DEBUGINFOD_URLS"):
        return Check("debug files", True, "DEBUGINFOD_URLS is set")
    count = sum(1 for _ in _DEBUG_FILES.glob("*/*.debug"))
    if count:
        return Check("debug files", True, f"{count} in {_DEBUG_FILES}")
    remedy = "apt install libc6-dbg, the -dbgsym packages you want, or libdebuginfod-common"
    return Check("debug files", False, "none: static functions of libraries show as module+0xoffset", remedy)


def _libvirt_checks() -> Iterable[Check]:
    yield _tool("libvirtd", "libvirt-daemon-system libvirt-daemon-driver-qemu", "--version")
    yield _tool("virsh", "libvirt-clients", "--version")
    yield _tool("qemu-system-x86_64", "qemu-system-x86", "--version")


def _tool(name: str, packages: str, *arguments: str) -> Check:
    path = shutil.which(name, path=_SYSTEM_PATH)
    if path is None:
        return Check(name, False, "not installed", f"apt install {packages}")
    try:
        said = subprocess.run(
            [path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, False, f"{path}: {error}", f"apt install --reinstall {packages}")
    first = said.stdout.decode(errors="replace").strip().partition("\n")[0]
    return Check(name, True, first or path)
