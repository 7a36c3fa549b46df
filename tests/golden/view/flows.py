"""Hand-written flows for the tests of the views: libvirt's start of a guest, a long one, a nasty one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from clew.model.flow import Activation, ChannelRef, Credentials, Flow, Hop, HopKind, Reached, Tier
from clew.model.frame import Backtrace, Frame
from clew.model.task import Party, TaskId

LIBVIRT_SO = b"/usr/lib/x86_64-linux-gnu/libvirt.so.0.9000.0"
QEMU_DRIVER = b"/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so"
LIBC = b"/usr/lib/x86_64-linux-gnu/libc.so.6"
SOCKET = ChannelRef("unix", "unix:48213", "/run/libvirt/libvirt-sock")
QEMU = b"/usr/bin/qemu-system-x86_64"
QEMU_ARGV = (
    QEMU, b"-name", b"guest=tiny,debug-threads=on", b"-S", b"-object",
    b'{"qom-type":"secret","id":"masterKey0","format":"raw","file":"/var/lib/libvirt/qemu/tiny/master-key.aes"}',
    b"-machine", b"pc-i440fx-7.2,usb=off,dump-guest-core=off", b"-accel", b"tcg", b"-m", b"64",
    b"-overcommit", b"mem-lock=off", b"-smp", b"1,sockets=1,cores=1,threads=1", b"-uuid",
    b"6a3f1c1e-5b8f-4c56-9d0b-2f6f5f4f9a11", b"-no-user-config", b"-nodefaults", b"-msg", b"timestamp=on",
)  # fmt: skip


Ends = tuple[Party, Party]


def party(pid: int, tid: int, comm: bytes, exe: bytes) -> Party:
    """A task that began ``tid`` milliseconds after the boot."""
    return Party(TaskId(pid, tid, tid * 1_000_000), comm, exe)


def stack(module: bytes, *names: str) -> Backtrace:
    """Innermost first, the way a backtrace is; "" is a frame that nothing names."""
    return tuple(Frame(name, module, 0x8A000 + 0x3C0 * i) for i, name in enumerate(names))


VIRSH = party(4121, 4121, b"virsh", b"/usr/bin/virsh")
MAIN = party(812, 812, b"libvirtd", b"/usr/sbin/libvirtd")
WORKER = party(812, 815, b"rpc-worker", b"/usr/sbin/libvirtd")
CHILD = party(4130, 4130, b"rpc-worker", b"/usr/sbin/libvirtd")
GUEST = party(4130, 4130, b"qemu-system-x86", QEMU)

_SENDING = stack(LIBC, "__GI___writev", "writev") + stack(
    LIBVIRT_SO, "virNetSocketWrite", "", "virNetClientSendWithReply", "virNetClientProgramCall",
    "", "virDomainCreate",
) + (Frame("cmdStart", b"/usr/bin/virsh", 0x2B4F0, "../tools/virsh-domain.c", 4097),)  # fmt: skip
_DISPATCH = stack(LIBC, "__libc_recvmsg") + stack(
    LIBVIRT_SO, "virNetSocketReadWire", "virNetSocketRead", "virNetServerClientDispatchRead",
    "virNetServerClientDispatchEvent", "virEventGLibHandleDispatch", "virEventRunDefaultImpl",
)  # fmt: skip
_QUEUE = stack(LIBC, "__pthread_cond_signal") + stack(
    LIBVIRT_SO, "virCondSignal", "virThreadPoolSendJob", "virNetServerDispatchNewMessage",
    "virNetServerClientDispatchRead",
)  # fmt: skip
_WORK = stack(LIBC, "__futex_abstimed_wait_common", "pthread_cond_wait") + stack(
    LIBVIRT_SO, "virCondWait", "virThreadPoolWorker", "virThreadHelper"
)
_LAUNCH = stack(QEMU_DRIVER, "qemuProcessLaunch", "qemuProcessStart", "", "") + stack(
    LIBVIRT_SO, "virDomainCreate", "virNetServerProgramDispatch", "virThreadPoolWorker", "virThreadHelper"
)
_FORK = (
    stack(LIBC, "__GI__Fork", "__libc_fork")
    + stack(LIBVIRT_SO, "virFork", "", "virCommandRunAsync", "virCommandRun")
    + _LAUNCH
)
_CHILD = stack(LIBC, "__GI__Fork") + stack(LIBVIRT_SO, "virFork", "", "virCommandRunAsync")
_EXEC = stack(LIBC, "execve") + stack(LIBVIRT_SO, "", "virCommandRunAsync", "virCommandRun") + _LAUNCH
_WAITS = stack(LIBC, "__GI___libc_read") + stack(LIBVIRT_SO, "saferead", "virCommandHandshakeWait") + _LAUNCH
_WRITE = stack(LIBC, "__GI___libc_write")
_NOTIFY = _WRITE + stack(LIBVIRT_SO, "safewrite", "virCommandHandshakeNotify") + _LAUNCH
_CHILD_SHAKES = _WRITE + stack(LIBVIRT_SO, "safewrite", "virCommandHandshakeChild", "")
_POLL = stack(LIBC, "__GI___poll") + stack(LIBVIRT_SO, "virNetClientIOEventLoop", "virNetClientSendWithReply")


def _ms(value: float) -> int:
    return round(value * 1_000_000)


def _hop(n: int, kind: HopKind, ends: Ends, acts: tuple[int, int], at: float, late: float) -> Hop:
    return Hop(n, kind, Tier.OBSERVED, *ends, *acts, _ms(at), _ms(at + late))


def _libvirt_hops() -> tuple[Hop, ...]:
    hand = [ChannelRef("pipe", "pipe:90311"), ChannelRef("pipe", "pipe:90312")]
    wake = ChannelRef("eventfd", "eventfd:77")
    message = HopKind.MESSAGE
    return (
        replace(
            _hop(1, message, (VIRSH, MAIN), (0, 1), 20.512, 0.041), channel=SOCKET, bytes=56, on_path=True,
            syscall_from="writev", syscall_to="recvmsg", stack_from=_SENDING, stack_to=_DISPATCH,
        ),
        replace(
            _hop(2, HopKind.WAKE, (MAIN, WORKER), (1, 2), 20.730, 0.063),
            channel=ChannelRef("futex", "futex:812:7f3c"), on_path=True, stack_from=_QUEUE, stack_to=_WORK,
        ),
        replace(
            _hop(3, HopKind.SPAWN, (WORKER, CHILD), (2, 3), 61.204, 0.690),
            on_path=True, syscall_from="clone", stack_from=_FORK, stack_to=_CHILD,
        ),
        replace(
            _hop(4, message, (CHILD, WORKER), (3, 2), 66.871, 0.030),
            channel=hand[0], bytes=1, reply=True, stack_from=_CHILD_SHAKES, stack_to=_WAITS,
        ),
        replace(
            _hop(5, message, (WORKER, CHILD), (2, 3), 94.020, 0.025),
            channel=hand[1], bytes=1, stack_from=_NOTIFY, stack_to=_CHILD_SHAKES,
        ),
        replace(
            _hop(6, HopKind.EXEC, (CHILD, GUEST), (3, 3), 118.402, 0.0), on_path=True, syscall_from="execve",
            credentials=Credentials(64055, 64055, ("capset", "setregid", "setgroups", "setreuid")),
            exe=QEMU, argv=QEMU_ARGV, stack_from=_EXEC,
        ),
        replace(
            _hop(7, HopKind.WAKE, (WORKER, MAIN), (2, 4), 612.330, 0.080),
            channel=wake, reply=True, stack_from=stack(LIBVIRT_SO, "virNetServerClientSendMessage"),
        ),
        replace(
            _hop(8, message, (MAIN, VIRSH), (4, 0), 612.902, 0.038),
            channel=SOCKET, bytes=48, reply=True, stack_from=_DISPATCH, stack_to=_POLL,
        ),
    )  # fmt: skip


def libvirt() -> Flow:
    """``virsh start tiny`` as facts.md tells it, with the capability probe and the handshake."""
    activations = (
        Activation(0, VIRSH, 0, _ms(614.2), "virsh", (), True),
        Activation(1, MAIN, _ms(20.553), _ms(20.801), "virNetServerClientDispatchRead", (1,), True),
        Activation(2, WORKER, _ms(20.793), _ms(612.4), "qemuProcessStart", (2,), True),
        Activation(3, CHILD, _ms(61.894), _ms(614.0), "virCommandRunAsync", (3,), True),
        Activation(4, MAIN, _ms(612.410), _ms(612.990), "virNetServerClientDispatchWrite", (7,)),
    )
    return Flow(
        VIRSH, (b"virsh", b"start", b"tiny"), _libvirt_hops(), activations, (1, 2, 3, 6),
        (Reached("exec", GUEST, QEMU, QEMU_ARGV, False, 6, _ms(118.402)),),
        "exec:*qemu-system-x86_64", {"read": 90_211, "write": 4_120, "waking": 61_902, "exec": 7},
        {}, _ms(614.2), 0,
    )  # fmt: skip


def big(length: int = 3000) -> Flow:
    """A client and a server with eight threads that talk ``length`` hops long, each over a named socket."""
    client = party(100, 100, b"client", b"/usr/bin/client")
    threads = [party(200, 200 + i, b"pool-%d" % i, b"/usr/bin/server") for i in range(8)]
    hops: list[Hop] = []
    activations = [Activation(0, client, 0, length * 100_000, "client")]
    for n in range(1, length + 1):
        asks, thread = n % 2 == 1, threads[(n * 7919 // 3) % 8]
        ends = (client, thread) if asks else (hops[-1].target, client)
        hop = _hop(n, HopKind.MESSAGE, ends, (0, n), n / 10, 0.01)
        hop = replace(hop, channel=ChannelRef("unix", f"unix:{n % 8}", f"/run/server-{n % 8}"), bytes=n)
        if not asks:
            hop = replace(hop, source_activation=n - 1, target_activation=0, reply=True)
        else:
            activations.append(Activation(n, thread, hop.arrived_ns, hop.arrived_ns + 90_000, "serve", (n,)))
        hops.append(hop)
    return Flow(client, (b"client", b"--all"), tuple(hops), tuple(activations), recorded={"read": length})


def chain(length: int = 3000) -> Flow:
    """A path as long as the flow: each process forks the next one, which is the worst for lanes."""
    tasks = [party(1000 + i, 1000 + i, b"step-%d" % i, b"/usr/bin/step") for i in range(length + 1)]
    hops = tuple(
        replace(_hop(n, HopKind.SPAWN, (tasks[n - 1], tasks[n]), (n - 1, n), n / 10, 0.02), on_path=True)
        for n in range(1, length + 1)
    )
    activations = tuple(
        Activation(i, task, i * 100_000 + 20_000 * (i > 0), i * 100_000 + 150_000, "step", (i,) * (i > 0))
        for i, task in enumerate(tasks)
    )
    path = tuple(range(1, length + 1))
    return Flow(tasks[0], (b"step",), hops, activations, path, until="exec:*", recorded={"fork": length})


NASTY = (
    b"\x1b]0;pwn\x07</text><script>alert(1)</script>",
    b"\xff\xfe not utf-8 \x80",
    "\u202eevil\u202c\u2066x\u2069\u200b\ufeff".encode(),
    b'";\nend\nNote over A: gone %%{init: {"theme":"x"}}%%',
    b"[bold red]markup[/] {x} \\ $(reboot) `id` 'q' #35; &amp; <!-- ]]> -->",
    b"style: a:#x; classDef: b:#y; wrap: END",
    "\u0430\u0301\u0302\u0303\u0304\u0305\u0306\u0307 \u8b49\u5238 \U0001f600 \U000e0041".encode(),
    b"\x9b31m \xc2\x9b31m \r\n\t\x00\x7f",
    b"",
)


def nasty() -> Flow:
    """A short flow in which every traced string is an attack on some sink."""
    parties = [party(10 + i, 10 + i, name[:15], b"/tmp/" + name) for i, name in enumerate(NASTY)]
    names = [name.decode("utf-8", "surrogateescape") for name in NASTY]
    hops = []
    for i, (source, target) in enumerate(pairwise(parties)):
        hop = _hop(i + 1, HopKind.MESSAGE, (source, target), (i, i + 1), float(i), 0.1)
        frames = (Frame(names[i], NASTY[i], 16, names[i], 3), Frame("", NASTY[i], 32))
        hops.append(replace(
            hop, channel=ChannelRef("unix", names[i], names[i]), bytes=1, stack_from=frames, stack_to=frames,
            reason=names[i], syscall_from=names[i], on_path=True, tier=Tier.AMBIGUOUS,
        ))  # fmt: skip
    last = parties[-1]
    end = _hop(len(hops) + 1, HopKind.EXEC, (last, last), (len(hops), len(hops)), 99.0, 0.0)
    hops.append(replace(end, exe=NASTY[0], argv=NASTY, argv_truncated=True, on_path=True))
    activations = tuple(
        Activation(i, task, _ms(float(i)), _ms(i + 0.9), names[i], (i,) if i else (), True)
        for i, task in enumerate(parties)
    )
    return Flow(
        parties[0], NASTY, tuple(hops), activations, tuple(range(1, len(hops) + 1)),
        (Reached("exec", last, NASTY[0], NASTY, True, len(hops), _ms(99)),), names[0],
        {names[0]: 5}, {names[0]: 2}, _ms(100), -9, tuple(names),
    )  # fmt: skip


def mixed() -> Flow:
    """What the libvirt path has not: a crossing, a fold, an ambiguous hop, a gap, two causes, losses."""
    shell, server = party(10, 10, b"sh", b"/bin/dash"), party(20, 20, b"server", b"/opt/server/bin/server")
    one, two = (party(20, 20 + i, b"pool", b"/opt/server/bin/server") for i in (1, 2))
    tool, thread = party(11, 11, b"sh", b"/bin/dash"), party(11, 12, b"tool", b"/usr/bin/tool")
    after = Party(tool.id, b"tool", b"/usr/bin/tool")
    pipe, port = ChannelRef("pipe", "pipe:5"), ChannelRef("tcp", "tcp:9", "127.0.0.1:8080")
    ask, wake = HopKind.MESSAGE, HopKind.WAKE
    hops = [
        replace(_hop(1, HopKind.SPAWN, (shell, tool), (0, 1), 1.0, 0.3), syscall_from="vfork"),
        replace(_hop(2, HopKind.EXEC, (tool, after), (1, 1), 1.5, 0), exe=after.exe, argv=(b"tool", b"-x y")),
        _hop(3, HopKind.SPAWN, (after, thread), (1, 2), 2.0, 0.1),
        replace(_hop(4, ask, (after, server), (1, 3), 2.5, 0.9), channel=port, bytes=1_048_576, passed_fds=1),
        replace(_hop(5, ask, (thread, server), (2, 3), 2.9, 0.5), channel=port, bytes=10),
        replace(_hop(6, wake, (server, one), (3, 4), 4.0, 1.1), channel=ChannelRef("futex", "futex:1")),
        replace(
            _hop(7, wake, (server, two), (3, 5), 4.2, 0.2), channel=ChannelRef("futex", "futex:2"),
            tier=Tier.AMBIGUOUS, reason="the order of the queue", near_gap=True,
        ),
    ]  # fmt: skip
    for n in range(8, 88):
        ends, acts = ((two, after), (5, 1)) if n % 2 == 0 else ((after, two), (1, 5))
        hops.append(replace(_hop(n, ask, ends, acts, n, 0.1), channel=pipe, bytes=64, reply=n % 2 == 0))
    hops.append(replace(_hop(88, HopKind.SIGNAL, (after, shell), (1, 0), 90.0, 0.1), signal=10))
    hops.append(replace(_hop(89, HopKind.EXIT, (after, shell), (1, 0), 91.0, 0.1), exit_status=3))
    activations = (
        Activation(0, shell, 0, _ms(92), "sh"), Activation(1, tool, _ms(1.3), _ms(91), "main", (1,)),
        Activation(2, thread, _ms(2.1), _ms(3.3), "start_thread", (3,)),
        Activation(3, server, _ms(3.4), _ms(4.5), "on_readable", (4, 5)),
        Activation(4, one, _ms(5.1), _ms(6), "work", (6,)),
        Activation(5, two, _ms(4.4), _ms(90), "work", (7,)),
    )  # fmt: skip
    return Flow(
        shell, (b"sh", b"-c", b"tool '-x y'"), tuple(hops), activations, (), (), "exec:*qemu*",
        {"read": 12_034, "write": 90}, {"read": 12, "futex": 3}, _ms(92), -15,
        ("Events were lost between 4.1 and 4.3 ms, near hop 7.", "No backtrace could be taken of pool 22."),
    )  # fmt: skip


def said(backtrace: Backtrace) -> Backtrace:
    """The frames that say something, as far as these flows go: named, and not in libc."""
    return tuple(frame for frame in backtrace if frame.function and frame.module != LIBC)
