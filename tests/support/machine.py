"""What a test may need of the machine, and what lacks: a package, a right, or what the kernel refuses."""

from __future__ import annotations

import ctypes as C
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from clew.errors import EngineError
from clew.kernel import features
from tests.support.clew_command import CONTAINER


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a test cannot run here.  ``kernel``: no package and no right would mend it on this machine."""

    reason: str
    kernel: bool = False


def lack(need: str) -> Lack | None:
    """What lacks for ``need``, one of NEEDS; None if nothing does.  Raises KeyError for any other word."""
    return NEEDS[need]()


def _program(*names: str) -> Callable[[], Lack | None]:
    def look() -> Lack | None:
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
        absent = [name for name in names if not shutil.which(name, path=path)]
        return Lack(f"not installed: {', '.join(absent)}") if absent else None

    return look


def chromium() -> str | None:
    """Where Chromium is, which Debian and others call by different names."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _root() -> Lack | None:
    return Lack("needs root") if os.geteuid() else None


@cache
def _bpf() -> Lack | None:
    if not features.privileges().ok:
        return Lack("BPF needs root")
    refused = next((check for check in (features.btf(), features.bpf_call()) if not check.ok), None)
    if refused:
        return Lack(f"{refused.name}: {refused.detail}", kernel=True)
    return _libbpf() or _probes()


def _libbpf() -> Lack | None:
    from clew.engine.bpf.libbpf import library

    try:
        library()
    except EngineError as error:
        return Lack(error.cause)
    return None


def _probes() -> Lack | None:
    folder = Path(features.__file__).parent.parent / "engine" / "bpf" / "probes"
    sources = {path.name.removesuffix(".c") for path in folder.glob("*.bpf.c")}
    built = {path.name.removesuffix(".o") for path in folder.glob("*.bpf.o")}
    unbuilt = sorted(sources - built)
    return Lack(f"probes not built: {', '.join(unbuilt)}; run ./x test") if unbuilt else None


def _whole_machine() -> Lack | None:
    check = features.namespaces()
    return None if check.ok else Lack(check.detail, kernel=True)


@cache
def _ptrace() -> Lack | None:
    check = features.ptrace_child()
    return None if check.ok else Lack(check.detail, kernel=True)


def _fork_signal() -> Lack | None:
    return None if features.fork_signal().ok else Lack("the kernel has no bpf_send_signal_task", kernel=True)


def _task_work() -> Lack | None:
    from clew.engine.bpf.parts import CRASH_HOLDS

    return None if CRASH_HOLDS.way() else Lack("the kernel has no bpf_task_work_schedule_signal", kernel=True)


@cache
def _user_namespaces() -> Lack | None:
    child = os.fork()
    if child == 0:
        # os.unshare is of Python 3.12; CLONE_NEWUSER of include/uapi/linux/sched.h.
        os._exit(1 if C.CDLL(None).unshare(0x10000000) else 0)
    made = os.waitpid(child, 0)[1] == 0
    return None if made else Lack("the kernel makes no user namespaces here", kernel=True)


@cache
def _container() -> Lack | None:
    made = subprocess.run([*CONTAINER, "true"], capture_output=True, check=False)
    said = made.stderr.decode(errors="replace").strip()
    return Lack(f"no namespaces for a container: {said}", kernel=True) if made.returncode else None


NEEDS: dict[str, Callable[[], Lack | None]] = {
    "root": _root,
    "bpf": _bpf,
    "probes": _probes,
    "whole-machine": _whole_machine,
    "ptrace": _ptrace,
    "fork-signal": _fork_signal,
    "task-work": _task_work,
    "user-namespaces": _user_namespaces,
    "container": _container,
    "compiler": _program("cc", "c++", "strip"),
    "clang": _program("clang"),
    "gdb": _program("gdb"),
    "lldb": _program("lldb"),
    "loop": _program("losetup", "mkfs.ext4", "fsfreeze"),
    "strace": _program("strace"),
    "make": _program("make"),
    "bindfs": _program("bindfs"),
    "chromium": lambda: None if chromium() else Lack("not installed: chromium"),
    "tsc": _program("tsc"),
    "libvirt": _program("virsh", "libvirtd", "virtlogd", "qemu-system-x86_64"),
}
