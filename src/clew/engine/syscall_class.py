"""Which system calls are recorded, and how each is to be read.  Both engines use this table.

The numbers of the classes are those of ``enum clew_class`` in ``bpf/probes/state.bpf.h``.
"""

from __future__ import annotations

from enum import IntEnum

from clew.kernel.syscalls import number_of

TABLE_SIZE = 512


class SyscallClass(IntEnum):
    """How a call's arguments and result are read."""

    NONE = 0
    SEND = 1
    RECV = 2
    SENDTO = 3
    RECVFROM = 4
    SENDMSG = 5
    RECVMSG = 6
    SENDMMSG = 7
    RECVMMSG = 8
    SPLICE = 9
    TEE = 10
    SENDFILE = 11
    WAIT = 12
    ACCEPT = 13
    FUTEX = 14
    WAIT_CHILD = 15
    CRED = 16
    EXEC = 17
    CLONE = 18
    CALL = 19
    CONNECT = 20
    POLL = 21
    SELECT = 22
    EPOLL = 23
    EPOLL_CTL = 24
    TIMER_SET = 25
    OPEN = 26


_CALLS = {
    SyscallClass.SEND: "write writev pwrite64 pwritev pwritev2 vmsplice",
    SyscallClass.RECV: "read readv pread64 preadv preadv2",
    SyscallClass.SENDTO: "sendto",
    SyscallClass.RECVFROM: "recvfrom",
    SyscallClass.SENDMSG: "sendmsg",
    SyscallClass.RECVMSG: "recvmsg",
    SyscallClass.SENDMMSG: "sendmmsg",
    SyscallClass.RECVMMSG: "recvmmsg",
    SyscallClass.SPLICE: "splice",
    SyscallClass.TEE: "tee",
    SyscallClass.SENDFILE: "sendfile",
    SyscallClass.WAIT: "pause rt_sigsuspend rt_sigtimedwait mq_timedreceive mq_timedsend msgrcv msgsnd semop "
    "semtimedop",
    SyscallClass.POLL: "poll ppoll",
    SyscallClass.SELECT: "select pselect6",
    SyscallClass.EPOLL: "epoll_wait epoll_pwait epoll_pwait2",
    SyscallClass.EPOLL_CTL: "epoll_ctl",
    SyscallClass.TIMER_SET: "timerfd_settime",
    SyscallClass.OPEN: "open openat openat2 creat",
    SyscallClass.ACCEPT: "accept accept4",
    SyscallClass.FUTEX: "futex futex_wait futex_wake futex_waitv futex_requeue",
    SyscallClass.WAIT_CHILD: "wait4 waitid",
    SyscallClass.CRED: "setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups "
    "capset",
    SyscallClass.EXEC: "execve execveat",
    SyscallClass.CLONE: "clone clone3 fork vfork",
    SyscallClass.CONNECT: "connect",
    SyscallClass.CALL: "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal",
}


def syscall_classes() -> dict[int, SyscallClass]:
    """Number of each recorded system call of this machine → its class."""
    classes = {}
    for kind, names in _CALLS.items():
        for name in names.split():
            nr = number_of(name)
            if nr is not None:
                classes[nr] = kind
    return classes
