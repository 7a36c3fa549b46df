"""What ``clew doctor`` looks at, in groups, and which engine that lets ``--engine auto`` pick."""

from __future__ import annotations

import ctypes as C
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clew.engine.bpf.libbpf import Object, library
from clew.errors import ClewError, EngineError
from clew.kernel import features
from clew.kernel.features import Check

_PROBES = Path(__file__).parent.parent / "engine" / "bpf" / "probes"
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


def examine() -> tuple[Group, ...]:
    """Make every check, on this machine, now.  Takes about a second: the probes are really loaded."""
    return (
        Group("bpf engine: the whole machine, as root", tuple(_bpf_checks()), "bpf"),
        Group("ptrace engine: your own programs, as anyone", (features.ptrace_child(), tracer()), "ptrace"),
        Group(
            "holding",
            (features.uprobes(), features.fork_signal(), features.task_work(), features.ptrace_others()),
        ),
        Group("debuggers", (_tool("gdb", "gdb", "--version"), _tool("lldb", "lldb", "--version"))),
        Group("backtraces", (drgn_installed(), debug_files())),
        Group("libvirt, for `clew demo libvirt`", tuple(_libvirt_checks())),
        Group("beside clew", (features.tracefs(),)),
    )


def verdict(groups: Iterable[Group]) -> Verdict:
    """Which engine ``auto`` picks given what was found: the first that lacks nothing."""
    reasons: list[str] = []
    for group in groups:
        lacks = [check for check in group.checks if not check.ok]
        if group.engine and not lacks:
            return Verdict(group.engine, "; ".join([*reasons, "all it needs is here"]))
        if group.engine:
            reasons.append(f"not {group.engine}: {lacks[0].name}: {lacks[0].detail}")
    return Verdict("", "; ".join(reasons))


def _bpf_checks() -> Iterable[Check]:
    granted = tuple(features.bpf_checks())
    loader = libbpf()
    yield from (*granted, loader)
    refused = next((check.name for check in (*granted, loader) if not check.ok), "")
    yield Check("probes", False, f"not tried without {refused}") if refused else probes_load()


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


def probes_load() -> Check:
    """Whether the kernel takes our own tracing programs, every one of them; none is attached."""
    objects = sorted(_PROBES.glob("*.bpf.o"))
    if not objects:
        return Check("probes", False, "not built", "In a checkout: ./x demo, or pip install -e .")
    try:
        programs = [name for path in objects for name in _load(path)]
    except EngineError as error:
        said = error.log.strip().rpartition("\n")[2]
        return Check("probes", False, f"{error.cause} {said}".strip(), "Please report it, with your kernel.")
    except ClewError as error:
        return Check("probes", False, error.cause, error.remedy)
    return Check("probes", True, f"{len(programs)} tracing programs loaded")


def _load(path: Path) -> list[str]:
    with Object(path) as probe:
        probe.load()
        return probe.programs()


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
