"""What this machine's kernel permits the calling process, found by trying rather than by its version.

Each function makes one check and leaves nothing behind.  A ``Check`` that is not ok says what mends it.
"""

from __future__ import annotations

import ctypes as C
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from clew.errors import ClewError
from clew.kernel import procfs, ptrace, yama
from clew.kernel.perf_mmap import MappingWatch

BTF: Final = Path("/sys/kernel/btf/vmlinux")
CAPABILITIES: Final = {"CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}
_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_MAP_CREATE, _MAP_TYPE_ARRAY = 0, 2
# What the first namespaces of a boot are numbered (include/linux/proc_ns.h: PROC_*_INIT_INO).
_FIRST_NAMESPACE = {"user": 0xEFFFFFFD, "pid": 0xEFFFFFFC, "time": 0xEFFFFFFA}
_AS_ROOT = "Run clew as root (sudo)."
_CONTAINER = (
    "In a container, its runtime must permit it: `docker run --privileged --pid=host`, or run clew outside."
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: whether it is there, what was found, and what to do if it is not.

    ``log`` is what the kernel said to it, at length.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    log: str = ""


def bpf_checks() -> Iterator[Check]:
    """What the kernel must grant before the ``bpf`` engine can work, each checked as it is asked for."""
    for look in (machine, btf, privileges, bpf_call, namespaces, perf_events):
        yield look()


def bpf_lack() -> Check | None:
    """The first of ``bpf_checks`` that is not ok: why ``--engine auto`` does not take ``bpf``."""
    return next((check for check in bpf_checks() if not check.ok), None)


def machine() -> Check:
    """Whether the processor is one that clew's probes read the registers of."""
    system = os.uname()
    ok = system.machine == "x86_64"
    remedy = "" if ok else "clew knows x86-64 only; a trace that was recorded there can be read here."
    return Check("kernel", ok, f"{system.sysname} {system.release}, {system.machine}", remedy)


def btf() -> Check:
    """Whether the kernel describes its own types, which CO-RE probes are fitted to."""
    if os.access(BTF, os.R_OK):
        return Check("BTF", True, f"{BTF}, {BTF.stat().st_size >> 10} KiB")
    remedy = "Use a kernel built with CONFIG_DEBUG_INFO_BTF=y (every large distribution's is)."
    if not Path("/sys/kernel").is_dir():
        remedy = "Mount sysfs: mount -t sysfs sysfs /sys"
    return Check("BTF", False, f"{BTF} is not readable", remedy)


def capabilities() -> frozenset[str]:
    """Those of CAPABILITIES that are in our effective set."""
    effective = int(_status_field(b"CapEff") or b"0", 16)
    return frozenset(name for name, bit in CAPABILITIES.items() if effective >> bit & 1)


def privileges() -> Check:
    """Whether we hold what loading a tracing program takes (capabilities(7))."""
    held = capabilities()
    detail = f"uid {os.geteuid()}, " + (", ".join(sorted(held)) or "no capability that matters here")
    if in_user_namespace():
        detail += ", in a user namespace: the kernel does not count them for BPF"
        return Check("privileges", False, detail, "Run clew as root outside that namespace.")
    ok = "CAP_SYS_ADMIN" in held or {"CAP_BPF", "CAP_PERFMON"} <= held
    return Check("privileges", ok, detail, "" if ok else f"{_AS_ROOT} CAP_BPF and CAP_PERFMON would do.")


def bpf_call() -> Check:
    """Whether bpf(2) really lets us in: makes a map of one entry, and closes it."""
    number = _SYS_BPF.get(os.uname().machine)
    if number is None:
        return Check("bpf(2)", False, "not known on this processor")
    attributes = (C.c_uint32 * 32)(_MAP_TYPE_ARRAY, 4, 8, 1)
    libc = C.CDLL(None, use_errno=True)
    fd = libc.syscall(number, _MAP_CREATE, attributes, C.sizeof(attributes))
    if fd >= 0:
        os.close(fd)
        return Check("bpf(2)", True, "a map could be made")
    return Check("bpf(2)", False, f"refused: {os.strerror(C.get_errno())}", _why_no_bpf(C.get_errno()))


def _why_no_bpf(error: int) -> str:
    if error == errno.ENOSYS:
        return "Use a kernel built with CONFIG_BPF_SYSCALL=y."
    if in_user_namespace():
        return "Run clew as root outside this user namespace."
    if _status_field(b"Seccomp") == b"2" or "CAP_BPF" in capabilities():
        return f"A seccomp filter or a security module says no. {_CONTAINER}"
    return _AS_ROOT


def in_user_namespace() -> bool:
    """Whether our capabilities are those of a user namespace, which BPF and perf do not ask."""
    return _namespace("user") not in (_FIRST_NAMESPACE["user"], 0)


def namespaces() -> Check:
    """Whether we see the machine as the kernel does: its process ids and times are the first namespaces'."""
    inside = [name for name, first in _FIRST_NAMESPACE.items() if _namespace(name) not in (first, 0)]
    if not inside:
        return Check("namespaces", True, "the machine's own user, pid and time namespaces")
    return Check("namespaces", False, f"in a {' and a '.join(inside)} namespace of its own", _CONTAINER)


def perf_events() -> Check:
    """Whether the kernel tells us of files as they are mapped, anywhere on the machine."""
    paranoid = (procfs.read("/proc/sys/kernel/perf_event_paranoid") or b"?").decode().strip()
    detail = f"perf_event_paranoid is {paranoid}"
    remedy = f"{_AS_ROOT} CAP_PERFMON would do, or: sysctl kernel.perf_event_paranoid=-1"
    try:
        MappingWatch().close()
    except ClewError as error:
        return Check("perf events", False, f"{detail}. {error.cause}", remedy)
    except OSError as error:
        return Check("perf events", False, f"{detail}. {error.strerror}.", remedy)
    return Check("perf events", True, detail)


def uprobes() -> Check:
    """Whether functions of programs can be probed."""
    pmu = Path("/sys/bus/event_source/devices/uprobe/type")
    if pmu.exists():
        return Check("uprobes", True, f"perf event type {pmu.read_text().strip()}")
    return Check("uprobes", False, f"{pmu} is missing", "Use a kernel built with CONFIG_UPROBE_EVENTS=y.")


def tracefs() -> Check:
    """Whether tracefs can be read: it numbers the events for those who attach by perf."""
    for folder in (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing")):
        if os.access(folder / "events", os.R_OK):
            return Check("tracefs", True, str(folder))
    if os.geteuid():
        return Check("tracefs", False, "not mounted, or root's alone", _AS_ROOT)
    return Check("tracefs", False, "not mounted", "mount -t tracefs tracefs /sys/kernel/tracing")


def fork_signal() -> Check:
    """Whether a BPF program can stop a task that is not the running one, such as a child just born."""
    if has_name("bpf_send_signal_task"):
        return Check("fork holds", True, "a forked child is held before it returns from clone")
    cannot = "a forked child is held at its first system call: the kernel has no bpf_send_signal_task"
    return Check("fork holds", False, cannot, "Linux 6.13 has it.")


@cache
def has_name(name: str) -> bool:
    """Whether the kernel's BTF has a function, type or field of this name; no if it has no BTF."""
    try:
        # The name stands between NULs among BTF's strings if anything in the kernel is called that.
        return f"\0{name}\0".encode() in BTF.read_bytes()
    except OSError:
        return False


def ptrace_child() -> Check:
    """Whether we can trace what we start: seizes a child of ours."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    try:
        ptrace.seize(child)
    except ClewError as error:
        scope = yama.ptrace_scope()
        remedy = _yama_remedy(scope) if scope >= 2 else _CONTAINER
        return Check("ptrace: children", False, error.cause, remedy)
    else:
        return Check("ptrace: children", True, "a child could be traced")
    finally:
        os.close(write_end)
        os.close(read_end)
        os.waitpid(child, 0)


def ptrace_others() -> Check:
    """Whether we can trace what others started, as -p and a debugger do: Yama's level, explained."""
    scope = yama.ptrace_scope()
    ok = scope == 0 or (scope < 3 and "CAP_SYS_PTRACE" in capabilities())
    detail = f"Yama level {scope}: {yama.meaning(scope)}"
    return Check("ptrace: others", ok, detail, "" if ok else _yama_remedy(scope))


def _yama_remedy(scope: int) -> str:
    if scope >= 3:
        return "It cannot be lowered: set kernel.yama.ptrace_scope in /etc/sysctl.d and boot anew."
    if scope == 2:
        return "Run clew as root; or, as root: sysctl kernel.yama.ptrace_scope=1 (for -p too: =0)"
    return "As root: sysctl kernel.yama.ptrace_scope=0 (or run clew as root); what clew starts needs neither"


def _status_field(name: bytes) -> bytes:
    """A field of /proc/self/status; b"" if the kernel has none of that name."""
    return procfs.status("self").get(name, b"")


def _namespace(kind: str) -> int:
    text = procfs.link(f"/proc/self/ns/{kind}")
    return int(text[text.index(b"[") + 1 : -1]) if b"[" in text else 0
