"""Which frames say something, and what an activation is called, on backtraces as they really look."""

from __future__ import annotations

import pytest

from clew.model.frame import Backtrace, Frame
from clew.stack.telling import label, label_of, place_of, telling

LIBC, GLIB = b"/usr/lib/x86_64-linux-gnu/libc.so.6", b"/usr/lib/x86_64-linux-gnu/libglib-2.0.so.0.7400.6"
VIRT = b"/usr/lib/x86_64-linux-gnu/libvirt.so.0.9000.0"
QEMU = b"/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so"
DAEMON, PROGRAM, PYTHON = b"/usr/sbin/libvirtd", b"/home/me/program", b"/usr/bin/python3.11"
STARTS = ((LIBC, "start_thread"), (LIBC, "clone3"))
MAIN = ((LIBC, "__libc_start_call_main"), (LIBC, "__libc_start_main"), (DAEMON, "_start"))


def stack(*frames: tuple[bytes, str]) -> Backtrace:
    """A backtrace, innermost first."""
    return tuple(Frame(name, module, 0x1000 + n) for n, (module, name) in enumerate(frames))


def names(backtrace: Backtrace) -> list[str]:
    return [frame.function for frame in backtrace]


WORKER_FORKS = stack(
    (LIBC, "_Fork"),
    (LIBC, "fork"),
    (VIRT, "virFork"),
    (VIRT, ""),
    (VIRT, "virCommandRunAsync"),
    (VIRT, "virCommandRun"),
    (QEMU, "qemuProcessLaunch"),
    (QEMU, "qemuProcessStart"),
    (QEMU, ""),
    (VIRT, "virDomainCreate"),
    (DAEMON, ""),
    (VIRT, "virNetServerProgramDispatch"),
    (VIRT, ""),
    (VIRT, "virThreadPoolWorker"),
    (VIRT, "virThreadHelper"),
    *STARTS,
)
WORKER_WAITS = stack(
    (LIBC, "__futex_abstimed_wait_common"),
    (LIBC, "pthread_cond_wait"),
    (VIRT, "virCondWait"),
    (VIRT, ""),
    *STARTS,
)
LOOP_READS = stack(
    (LIBC, "__libc_read"),
    (VIRT, "virNetSocketRead"),
    (VIRT, "virNetServerClientDispatchEvent"),
    (VIRT, ""),
    (GLIB, "g_main_context_dispatch"),
    (GLIB, ""),
    (GLIB, "g_main_context_iteration"),
    (VIRT, "virEventGLibRunOnce"),
    (VIRT, "virNetDaemonRun"),
    (DAEMON, "main"),
    *MAIN,
)


def test_the_worker_shows_what_it_was_doing() -> None:
    told = names(telling(WORKER_FORKS))
    assert told[:5] == [
        "virFork",
        "virCommandRunAsync",
        "virCommandRun",
        "qemuProcessLaunch",
        "qemuProcessStart",
    ]
    assert "" not in told
    assert not {"fork", "_Fork", "start_thread", "clone3"} & set(told)


def test_frames_keep_their_order_and_identity() -> None:
    told = telling(WORKER_FORKS)
    positions = [WORKER_FORKS.index(frame) for frame in told]
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    ("backtrace", "name"),
    [
        (WORKER_FORKS, "virDomainCreate"),
        (LOOP_READS, "virNetServerClientDispatchEvent"),
        (WORKER_WAITS, "virCondWait"),
        (stack((LIBC, "write"), (PROGRAM, "main"), *MAIN), "main"),
        (stack((LIBC, "write"), (PROGRAM, "send_reply"), (PROGRAM, "main"), *MAIN), "send_reply"),
        (stack((LIBC, "write"), (PROGRAM, ""), (PROGRAM, "worker_loop"), *STARTS), "worker_loop"),
        (stack((LIBC, "write"), (PROGRAM, ""), (PROGRAM, ""), *MAIN), "program+0x1001"),
        (stack((b"/lib64/ld-linux-x86-64.so.2", "_start")), "_start"),
        (stack((b"", "")), "0x1000"),
        ((), ""),
    ],
)
def test_labels(backtrace: Backtrace, name: str) -> None:
    assert label(backtrace) == name


def test_in_a_static_program_the_wrappers_are_left_out_by_name() -> None:
    static = stack(
        (PROGRAM, "__libc_read"), (PROGRAM, "take"), (PROGRAM, "read"), (PROGRAM, "main"), (PROGRAM, "_start")
    )
    assert names(telling(static)) == ["take", "read", "main"]


def test_an_interpreter_gives_way_to_what_stands_behind_it() -> None:
    evaluator = ((PYTHON, "_PyEval_EvalFrameDefault"), (PYTHON, "PyObject_Call"), (PYTHON, "Py_RunMain"))
    extension = stack((LIBC, "write"), (b"/x/_duckdb.so", "flush"), (PYTHON, "cfunction_call"), *evaluator)
    assert names(telling(extension)) == ["flush"]
    bare = stack((LIBC, "write"), *evaluator, *MAIN)
    assert names(telling(bare)) == ["write"]
    assert names(telling(stack((LIBC, "fork"), (PYTHON, "os_fork"), *evaluator))) == ["os_fork"]


def test_something_is_always_told() -> None:
    assert telling(()) == ()
    only_libc = stack((LIBC, "futex_wait"), *STARTS)
    assert names(telling(only_libc)) == ["futex_wait"]
    nameless = stack((LIBC, ""), (LIBC, ""))
    assert telling(nameless) == nameless[:1]


def test_modules_are_known_by_their_file_names_only() -> None:
    mine = stack((LIBC, "write"), (b"/libc/libcurl.so.4", "curl_send"), (b"/opt/ld/loader", "work"))
    assert names(telling(mine)) == ["curl_send", "work"]
    musl = stack((b"/lib/ld-musl-x86_64.so.1", "writev"), (b"[vdso]", "__vdso_time"), (PROGRAM, "work"))
    assert names(telling(musl)) == ["work"]


def test_the_label_of_an_activation_is_its_most_frequent_one() -> None:
    reply = stack((LIBC, "write"), (PROGRAM, "reply"), *STARTS)
    assert label_of([reply, WORKER_FORKS, WORKER_FORKS]) == "virDomainCreate"
    assert label_of([reply, WORKER_FORKS]) == "reply"
    assert label_of([(), ()]) == ""


def test_a_place_without_a_name() -> None:
    assert place_of(Frame("", b"/a/b/libx.so.1", 0x1F)) == "libx.so.1+0x1f"
    assert place_of(Frame("", b"", 0x7F00)) == "0x7f00"
    assert place_of(Frame("", b"/tmp/\xff", 1)) == "\\xff+0x1"
