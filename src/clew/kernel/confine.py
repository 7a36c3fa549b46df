"""A process that meets hostile files gives up what it could do harm with: its rights, most system calls.

For good: no new privileges (prctl(2)), another user where we are root, no capabilities, and a seccomp filter
that refuses what reading needs not.  Limits on time and memory keep a file from taking the machine with it.
"""

from __future__ import annotations

import ctypes as C
import os
import platform
import pwd
import resource
import struct
from collections.abc import Collection
from contextlib import suppress

from clew.kernel.syscalls import numbers

_PR_SET_NO_NEW_PRIVS, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 38, 4, 22
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522
_NOBODY = 65534
_CHANGE_USER = 1 << 6 | 1 << 7  # CAP_SETGID, CAP_SETUID

# linux/audit.h, linux/seccomp.h, linux/filter.h
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_TO_CHANGE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_FLAGS_OF = {"open": 1, "openat": 2}

_NEEDLESS = """
socket socketpair connect bind listen accept accept4 execve execveat ptrace process_vm_readv process_vm_writev
kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_getfd pidfd_send_signal process_madvise
bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key
creat openat2 open_by_handle_at unlink unlinkat rename renameat renameat2 mkdir mkdirat rmdir link linkat
symlink symlinkat mknod mknodat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat truncate
setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr utime utimes utimensat futimesat
mount umount2 pivot_root chroot fsopen fsconfig fsmount move_mount open_tree mount_setattr setns unshare
init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff
shmget shmat shmctl msgget msgsnd msgrcv semget semop mq_open fanotify_init inotify_init inotify_init1
"""


def owner() -> tuple[int, int]:
    """The user and group to become as root: whoever called sudo, else nobody."""
    with suppress(KeyError, ValueError):
        uid, gid = int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
        if uid > 0 and gid > 0:
            return uid, gid
    with suppress(KeyError):
        entry = pwd.getpwnam("nobody")
        return entry.pw_uid, entry.pw_gid
    return _NOBODY, _NOBODY


def is_privileged() -> bool:
    """Whether this process may do what its user's others may not: it is root, or has a capability."""
    return os.geteuid() == 0 or os.getuid() == 0 or _has_capabilities()


def give_up_rights() -> None:
    """Become a process without any right that a plain user's has not.  Raises OSError if that fails.

    In a user namespace that knows no user but its root, it stays that one, who is nobody outside.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if os.geteuid() == 0 or os.getuid() == 0:
        _change_user(*owner())
    with suppress(OSError):  # EINVAL before Linux 4.3
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _drop_capabilities()
    if is_privileged() and not (os.geteuid() == 0 and not _has_capabilities()):
        raise PermissionError("this process could not give up its capabilities")
    # Whoever else runs as that user must not look into it, nor take its descriptors (ptrace(2)).
    _prctl(_PR_SET_DUMPABLE, 0)


def _change_user(uid: int, gid: int) -> None:
    """As far as that is possible: root may have been left without the capabilities that it takes."""
    try:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError:
        if _knows_user(uid) and _capabilities() & _CHANGE_USER == _CHANGE_USER:
            raise


def _knows_user(uid: int) -> bool:
    """Whether the user namespace we are in has a user of this number (user_namespaces(7))."""
    with open("/proc/self/uid_map") as ranges:  # noqa: PTH123
        spans = [tuple(map(int, line.split())) for line in ranges]
    return any(first <= uid < first + count for first, _outside, count in spans)


def _has_capabilities() -> bool:
    return bool(_capabilities())


def _capabilities() -> int:
    """Those in effect, and those that could be put in effect."""
    with open("/proc/self/status", "rb") as status:  # noqa: PTH123
        lines = dict(line.split(b":", 1) for line in status if b":" in line)
    return int(lines.get(b"CapEff", b"0"), 16) | int(lines.get(b"CapPrm", b"0"), 16)


def _drop_capabilities() -> None:
    header = C.create_string_buffer(struct.pack("<Ii", _CAPABILITY_VERSION_3, 0))
    if _libc().syscall(C.c_long(numbers(platform.machine())["capset"]), header, bytes(24)):
        raise OSError(C.get_errno(), f"capset: {os.strerror(C.get_errno())}")


def limit(memory: int, files: int) -> None:
    """Bound what this process takes: ``memory`` bytes more than it has now, ``files``, no core dump."""
    with open("/proc/self/statm") as told:  # noqa: PTH123
        has = int(told.read().split()[0]) * resource.getpagesize()
    for what, most in (
        (resource.RLIMIT_AS, has + memory),
        (resource.RLIMIT_NOFILE, files),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, memory),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def allow_seconds(seconds: int) -> None:
    """From now on this process may use so much processor time before the kernel ends it (SIGXCPU)."""
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, hard))


def refuse_system_calls(names: Collection[str] = tuple(_NEEDLESS.split())) -> bool:
    """Have the kernel refuse these (EPERM), and opening a file to change it; whether that is so now.

    False where the kernel has no seccomp filters.  A list of what is refused, not of what is allowed: C
    libraries differ in the calls that they make on their own, and rights are what really bars the way.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return False
    code = _program(_ARCHITECTURES[machine], names)
    filter_ = C.create_string_buffer(b"".join(code))
    program = C.create_string_buffer(struct.pack("<HxxxxxxQ", len(code), C.addressof(filter_)))
    try:
        _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, C.addressof(program))
    except OSError:
        return False
    return True


def _program(architecture: int, names: Collection[str]) -> list[bytes]:
    known = numbers(platform.machine())
    code = [
        _instruction(_LOAD, _ARCH_AT),
        _instruction(_JUMP_EQUAL, architecture, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER_AT),
        _instruction(_JUMP_AT_LEAST, _X32, 0, 1),
        _instruction(_RETURN, _REFUSE),
    ]
    for name in names:
        if name in known:
            code += [_instruction(_JUMP_EQUAL, known[name], 0, 1), _instruction(_RETURN, _REFUSE)]
    for name, argument in _FLAGS_OF.items():
        if name in known:
            code += [
                _instruction(_JUMP_EQUAL, known[name], 0, 4),
                _instruction(_LOAD, _ARGUMENTS_AT + 8 * argument),
                _instruction(_JUMP_ANY_BIT, _TO_CHANGE, 0, 1),
                _instruction(_RETURN, _REFUSE),
                _instruction(_RETURN, _ALLOW),
            ]
    return [*code, _instruction(_RETURN, _ALLOW)]


def _instruction(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """A ``struct sock_filter``."""
    return struct.pack("<HBBI", code, if_true, if_false, k)


def die_with_parent(number: int) -> None:
    """Be sent this signal when the thread that forked us ends (PR_SET_PDEATHSIG)."""
    _prctl(1, number)


def _prctl(option: int, *arguments: int) -> None:
    values = [C.c_ulong(value) for value in (*arguments, *(0,) * (4 - len(arguments)))]
    if _libc().prctl(option, *values):
        raise OSError(C.get_errno(), f"prctl({option}): {os.strerror(C.get_errno())}")


def _libc() -> C.CDLL:
    return C.CDLL(None, use_errno=True)
