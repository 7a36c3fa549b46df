"""Holding real processes: where they stand, who is held with them, how they are let go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import clew
from clew.code.elf import ElfFile
from clew.engine.bpf import hold_probes
from clew.engine.stops import Held
from clew.errors import ClewError, HoldError, SymbolNotFound
from clew.hold.backing import BpfBacking
from clew.hold.session import HoldSession
from clew.hold.watched import Guardian
from clew.kernel import features, procfs, signals
from tests.support.bounded import until

needs_bpf = pytest.mark.requires("root", "bpf")
BOTH = [pytest.param("bpf", marks=needs_bpf), pytest.param("ptrace", marks=pytest.mark.requires("ptrace"))]
pytestmark = pytest.mark.usefixtures("runtime")
only_bpf = pytest.mark.parametrize("engine", BOTH[:1], indirect=True)
only_ptrace = pytest.mark.parametrize("engine", BOTH[1:], indirect=True)

# Counts its own first store, so that a stop that came too late is seen in its memory, not guessed.
SUBJECT = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
extern char **environ;
__attribute__((noipa)) int clew_test_work(int number, const char *text) {
    return printf("work %d %s\n", number, text);
}
static void say(const char *text) { dprintf(1, "%s\n", text); }
static void *tick(void *unused) {
    (void)unused;
    for (;;) { say("tick"); usleep(5000); }
}
static void on_usr1(int number) { (void)number; say("handled"); }
static int run(char **argv, int how) {
    pid_t child;
    if (how == 'v') { child = vfork(); if (!child) { execv(argv[0], argv); _exit(127); } }
    else if (how == 's') { if (posix_spawn(&child, argv[0], NULL, NULL, argv, environ)) return 1; }
    else { child = fork(); if (!child) { execv(argv[0], argv); _exit(127); } }
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}
static void *exec_in_thread(void *argv) { execv(((char **)argv)[0], argv); return NULL; }
int main(int argc, char **argv) {
    const char *act = argc > 1 ? argv[1] : "work";
    if (!strcmp(act, "work")) clew_test_work(42, "main");
    if (!strcmp(act, "threads")) {
        pthread_t one;
        pthread_create(&one, NULL, tick, NULL);
        clew_test_work(42, "main");
    }
    if (!strcmp(act, "fork")) {
        pid_t child = fork();
        if (!child) { say("child"); _exit(7); }
        int status;
        waitpid(child, &status, 0);
        printf("child ended %d\n", WEXITSTATUS(status));
    }
    if (!strcmp(act, "run")) return run(argv + 3, argv[2][0]);
    if (!strcmp(act, "thread-exec")) {
        pthread_t one;
        pthread_create(&one, NULL, exec_in_thread, argv + 2);
        pthread_join(one, NULL);
    }
    if (!strcmp(act, "usr1")) { signal(SIGUSR1, on_usr1); raise(SIGUSR1); }
    if (!strcmp(act, "read")) { char byte; say("reading"); return read(0, &byte, 1) == 1 ? byte : 99; }
    if (!strcmp(act, "unlink")) { say("unlinking"); unlink(argv[2]); say("done"); }
    if (!strcmp(act, "many")) for (int i = 0; i < 5; i++) clew_test_work(i, "many");
    fflush(stdout);
    return 5;
}
"""


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The subject, under a name that no other process has."""
    folder = tmp_path_factory.mktemp("subject")
    source = folder / "subject.c"
    source.write_text(SUBJECT)
    program = folder / f"clew-test-{os.getpid()}"
    subprocess.run(["cc", "-g", "-O1", "-pthread", source, "-o", program], check=True)
    return program


@pytest.fixture(autouse=True, params=BOTH)
def engine(request: pytest.FixtureRequest) -> clew.Engine:
    """Each test runs with both engines, unless it says with which."""
    found: clew.Engine = request.param
    return found


Hold = Callable[..., clew.Holding]
Start = Callable[..., "subprocess.Popen[bytes]"]


class _Scene:
    """A holding session, and what is started in it."""

    def __init__(self) -> None:
        self.holds: clew.Holding | None = None
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE} | options
        begin: Start = self.holds.start if self.holds else subprocess.Popen
        self.running.append(begin(words, **options))
        return self.running[-1]


@pytest.fixture
def scene() -> Iterator[_Scene]:
    """What was started and still runs in the end is killed."""
    made = _Scene()
    yield made
    for process in made.running:
        process.kill()
        process.communicate()


@pytest.fixture
def hold(engine: clew.Engine, scene: _Scene) -> Hold:
    """``clew.holding`` with the engine of this test; the last one is where ``start`` starts programs."""

    def begin(*rules: str, **options: Any) -> clew.Holding:
        scene.holds = clew.holding(*rules, engine=engine, **options)
        return scene.holds

    return begin


@pytest.fixture
def start(subject: Path, scene: _Scene) -> Start:
    """Starts the subject."""

    def begin(*arguments: str | Path, program: Path | None = None, **options: Any) -> subprocess.Popen[bytes]:
        return scene.start(program or subject, *arguments, **options)

    return begin


STOPPED = {"bpf": "T", "ptrace": "t"}


def state(task: clew.HeldTask) -> str:
    return signals.state(task.pid, task.tid)


def is_at_loader_entry(task: clew.HeldTask) -> bool:
    """Whether the task's registers stand at the entry of the loader: nothing of the program has run."""
    registers = task.registers()
    ip = int.from_bytes(registers[128:136], "little")
    for mapping in procfs.mappings(task.pid):
        if mapping.start <= ip < mapping.end:
            with ElfFile.open(Path(os.fsdecode(mapping.path))) as elf:
                bias = elf.bias(mapping.start, mapping.file_offset)
                return bias is not None and ip - bias == elf.entry and b"ld-linux" in mapping.path
    return False


@pytest.mark.parametrize("how", ["f", "v", "s"])
def test_an_exec_is_held_at_the_first_instruction(
    engine: clew.Engine, hold: Hold, subject: Path, start: Start, how: str, tmp_path: Path
) -> None:
    other = tmp_path / f"clew-test-x{os.getpid()}"
    other.write_bytes(subject.read_bytes())
    other.chmod(0o755)
    with hold(f"exec:{other.name}") as holds:
        process = start("run", how, other, "work")
        held = holds.wait(timeout=10)
        assert held.hold.exe == os.fsencode(other)
        assert (held.hold.exact, held.hold.scope, state(held)) == ("entry", "process", STOPPED[engine])
        assert is_at_loader_entry(held)
        held.release()
        assert process.communicate(timeout=10)[0] == b"work 42 main\n"
        assert process.returncode == 5


def test_a_thread_that_execs_and_a_script_are_held(
    hold: Hold, subject: Path, start: Start, tmp_path: Path
) -> None:
    script = tmp_path / f"clew-test-script{os.getpid()}"
    script.write_text(f"#!{subject} many\n")
    script.chmod(0o755)
    with hold(f"exec:{script.name}") as holds:
        process = start("thread-exec", script)
        held = holds.wait(timeout=10)
        assert held.hold.exe == os.fsencode(subject)
        assert is_at_loader_entry(held)
        held.release()
        assert process.communicate(timeout=10)[0].count(b"many") == 5


def test_a_process_in_namespaces_of_its_own_is_held(hold: Hold, subject: Path) -> None:
    command = ["unshare", "--pid", "--mount", "--fork", str(subject), "work"]
    if subprocess.run(["unshare", "--pid", "--mount", "--fork", "true"], check=False).returncode:
        pytest.skip("this machine gives no namespaces")
    with hold(f"exec:{subject.name}", f"call:{subject}!clew_test_work") as holds:
        process = holds.start(command, stdout=subprocess.PIPE)
        held = holds.wait(timeout=10)
        assert is_at_loader_entry(held)
        held.release()
        held = holds.wait(timeout=10)
        assert [frame.function for frame in held.backtrace()[:2]] == ["clew_test_work", "main"]
        held.release()
        assert process.communicate(timeout=10)[0] == b"work 42 main\n"


@only_bpf
def test_a_setuid_program_keeps_its_privilege(
    hold: Hold, subject: Path, start: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Path(f"/var/tmp/clew-test-suid-{os.getpid()}")
    folder.mkdir(mode=0o755)
    program = folder / f"clew-test-suid{os.getpid()}"
    try:
        program.write_bytes(subject.read_bytes())
        program.chmod(0o4755)
        with hold(f"exec:{program.name}") as holds:
            process = holds.start([program], user=65534, stdout=subprocess.PIPE)
            held = holds.wait(timeout=10)
            status = Path(f"/proc/{held.pid}/status").read_text()
            assert "Uid:\t65534\t0\t0\t0" in status
            held.release()
            assert process.communicate(timeout=10)[0] == b"work 42 main\n"
    finally:
        program.unlink(missing_ok=True)
        folder.rmdir()


def test_a_forked_child_is_held_before_it_runs(
    engine: clew.Engine, hold: Hold, start: Start, subject: Path
) -> None:
    with hold(f"fork:{subject.name}") as holds:
        process = start("fork")
        held = holds.wait(timeout=10)
        assert held.pid != process.pid
        at_birth = engine == "ptrace" or features.fork_signal().ok
        assert (held.hold.exact, state(held)) == ("clone" if at_birth else "first-syscall", STOPPED[engine])
        assert "main" in [frame.function for frame in held.backtrace()]
        held.release()
        assert process.communicate(timeout=10)[0] == b"child\nchild ended 7\n"


@only_bpf
def test_without_the_kernels_help_a_child_is_held_at_its_first_system_call(
    hold: Hold, start: Start, subject: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on kernels before 6.13, which cannot send a signal to a child that is being born."""
    monkeypatch.setattr(hold_probes, "can_signal_child", lambda: False)
    with hold(f"fork:{subject.name}") as holds:
        process = start("fork")
        held = holds.wait(timeout=10)
        assert held.pid != process.pid
        assert (held.hold.exact, state(held)) == ("first-syscall", "T")
        assert "main" in [frame.function for frame in held.backtrace()]
        held.release()
        assert process.communicate(timeout=10)[0] == b"child\nchild ended 7\n"


def test_a_call_is_held_with_its_arguments_and_its_siblings_run_on(
    hold: Hold, start: Start, subject: Path
) -> None:
    with hold(f"call:{subject}!clew_test_work") as holds:
        process = start("threads")
        held = holds.wait(timeout=10)
        assert held.hold.scope == "thread"
        assert held.hold.at.function == "clew_test_work"
        frames = held.backtrace()
        assert [frame.function for frame in frames[:2]] == ["clew_test_work", "main"]
        assert frames[0].file.endswith("subject.c")
        assert state(held) == "t"
        assert process.stdout is not None
        ticks = [process.stdout.readline() for _ in range(20)]
        assert ticks == [b"tick\n"] * 20
        held.release()
        process.wait(10)
        assert process.returncode == 5


def test_process_scope_stops_every_thread(
    engine: clew.Engine, hold: Hold, start: Start, subject: Path
) -> None:
    with hold(f"call:{subject}!clew_test_work", scope="process") as holds:
        start("threads")
        held = holds.wait(timeout=10)
        tids = procfs.threads(held.pid)
        assert len(tids) == 2
        until(
            lambda: all(signals.state(held.pid, tid) == STOPPED[engine] for tid in tids),
            what="all threads stopped",
        )
        held.release()


def test_the_nth_hit_alone_is_held(hold: Hold, start: Start, subject: Path) -> None:
    with hold(f"call:{subject}!clew_test_work,n=3") as holds:
        process = start("many")
        held = holds.wait(timeout=10)
        held.release()
        process.wait(10)
        assert [event.event for event in holds.events(timeout=0.3)] == ["released"]


def test_a_line_is_held(hold: Hold, start: Start, subject: Path) -> None:
    line = next(n for n, text in enumerate(SUBJECT.splitlines(), 1) if "return printf" in text)
    with hold(f"at:subject.c:{line}", command=[os.fsencode(subject)]) as holds:
        process = start("work")
        held = holds.wait(timeout=10)
        assert (held.hold.at.file, held.hold.at.line, held.hold.exact) == ("subject.c", line, "line")
        assert held.backtrace()[0].line == line
        held.release()
        assert process.wait(10) == 5


@only_bpf
def test_a_signal_is_held_at_its_handler(hold: Hold, start: Start, subject: Path) -> None:
    with hold(f"signal:USR1,exe={subject.name}") as holds:
        process = start("usr1")
        held = holds.wait(timeout=10)
        assert held.backtrace()[0].function == "on_usr1"
        held.release()
        assert process.communicate(timeout=10)[0] == b"handled\n"


def test_an_exit_is_held_before_the_process_is_gone(hold: Hold, start: Start, subject: Path) -> None:
    with hold(f"exit:{subject.name}") as holds:
        process = start("work")
        held = holds.wait(timeout=10)
        assert (held.pid, held.hold.exact, held.hold.scope) == (process.pid, "exit", "process")
        assert held.backtrace()[0].function in ("_exit", "_Exit")
        assert process.poll() is None
        held.release()
        assert process.communicate(timeout=10)[0] == b"work 42 main\n"
        assert process.returncode == 5


@only_bpf
def test_an_exit_without_a_c_library_is_held(tmp_path: Path) -> None:
    source = tmp_path / "leaf.c"
    source.write_text(
        'void leave(void); __asm__(".globl leave\\n.type leave,@function\\nleave:\\n movl $5, %edi\\n"\n'
        '" movl $231, %eax\\n syscall\\n.size leave, .-leave\\n"); void _start(void) { leave(); }\n'
    )
    program = tmp_path / "clew-test-bare"
    subprocess.run(["cc", "-O1", "-static", "-nostdlib", source, "-o", program], check=True)
    with clew.holding(f"exit:{program}") as holds:
        process = subprocess.Popen([program])
        held = holds.wait(timeout=10)
        assert (held.hold.exact, held.hold.at.function) == ("exit", "leave")
        held.release()
        assert process.wait(10) == 5


def test_a_system_call_is_held_before_it_runs(
    hold: Hold, start: Start, subject: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    with hold(f"syscall:unlink,exe={subject.name}") as holds:
        process = start("unlink", victim)
        held = holds.wait(timeout=10)
        assert (held.hold.exact, held.hold.scope) == ("before-syscall", "thread")
        assert [frame.function for frame in held.backtrace()[:2]] == ["unlink", "main"]
        assert victim.exists()
        held.release()
        assert process.communicate(timeout=10)[0] == b"unlinking\ndone\n"
        assert not victim.exists()
        assert [event.event for event in holds.events(timeout=0.2)] == ["released"]


@only_bpf
def test_a_system_call_no_library_makes_is_held_after_it_or_while_it_waits(
    hold: Hold, tmp_path: Path
) -> None:
    source = tmp_path / "raw.c"
    source.write_text(
        "static long call(long number, long a, long b, long c) { long r; __asm__ volatile("
        '"syscall" : "=a"(r) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory"); return r; }\n'
        "int main(int argc, char **argv) { char byte = 0; call(argc > 1 ? 39 : 0, 0, (long)&byte, 1);"
        " return byte; }\n"
    )
    program = tmp_path / "clew-test-raw"
    subprocess.run(["cc", "-O1", source, "-o", program], check=True)
    # n=2: the loader reads the C library's header first.
    with hold(f"syscall:read,exe={program.name},n=2", f"syscall:getpid,exe={program.name}") as holds:
        waits = holds.start([program], stdin=subprocess.PIPE)
        held = holds.wait(timeout=10)
        assert held.hold.exact == "before-syscall"
        held.release()
        waits.communicate(b"\x21", timeout=10)
        assert waits.returncode == 0x21
        runs = holds.start([program, "getpid"])
        held = holds.wait(timeout=10)
        assert held.hold.exact == "after-syscall"
        held.release()
        assert runs.wait(10) == 0


@only_bpf
def test_exactness_is_what_the_end_of_the_system_call_made_of_it(
    hold: Hold, start: Start, subject: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session may be so quick that it reads the note before that."""
    with hold(f"syscall:read,exe={subject.name},n=2") as holds:
        assert isinstance(holds.session, HoldSession)
        notes = holds.session.stops
        now, early = notes.held, list[Held]()

        def held_before(tid: int) -> Held | None:
            note = now(tid)
            if note is None or early:
                return note
            early.append(note)
            return replace(note, exact="at-first-sight")

        monkeypatch.setattr(notes, "held", held_before)
        process = start("read")
        held = holds.wait(timeout=10)
        assert early
        assert held.hold.exact == early[0].exact
        held.release()
        process.kill()


@only_bpf
@pytest.mark.parametrize("flags", [[], ["-static"]])
def test_a_system_call_whose_number_only_the_register_tells_is_held_before_it(
    tmp_path: Path, flags: list[str]
) -> None:
    source = tmp_path / "raw.c"
    source.write_text(
        "#include <sys/syscall.h>\n#include <unistd.h>\n"
        "__attribute__((noipa)) static long raw(long number, long a) { long r; __asm__ volatile("
        '"mov %2, %%rdi; syscall" : "=a"(r) : "a"(number), "r"(a) : "rdi", "rcx", "r11"); return r; }\n'
        "int main(void) { raw(SYS_getppid, 0); syscall(SYS_getppid); long pid = raw(SYS_getpid, 0);"
        " return syscall(SYS_getpid) != pid; }\n"
    )
    program = tmp_path / "clew-test-register"
    subprocess.run(["cc", "-O1", *flags, source, "-o", program], check=True)
    with clew.holding(f"syscall:getpid,exe={program}") as holds:
        process = subprocess.Popen([program])
        for function in ("raw", "syscall"):
            held = holds.wait(timeout=10)
            assert held.hold.exact == "before-syscall"
            assert held.backtrace()[0].function == function
            held.release()
        assert process.wait(10) == 0
        assert [event.event for event in holds.events(timeout=0.2)] == ["released"]


def test_conditions_are_decided_in_the_kernel(hold: Hold, start: Start, subject: Path) -> None:
    rules = (
        f"exec:{subject},argv=*many*",
        f"exec:{subject},uid=1",
        f"exec:{subject},parent={os.getpid()},argv=fork",
        f"exec:{subject},lineage=clew-no-such-program",
    )
    with hold(*rules) as holds:
        free = start("work")
        assert free.wait(10) == 5
        many = start("many")
        held = holds.wait(timeout=10)
        assert (held.pid, held.hold.rule) == (many.pid, rules[0])
        held.release()
        forked = start("fork")
        held = holds.wait(timeout=10)
        assert (held.pid, held.hold.rule) == (forked.pid, rules[2])
        held.release()


def test_an_exclusion_wins(hold: Hold, start: Start, subject: Path) -> None:
    with hold(f"exec:{subject.name}", f"!exec:{subject.name},argv=work") as holds:
        assert start("work").wait(10) == 5
        other = start("many")
        assert holds.wait(timeout=10).pid == other.pid


def test_past_the_cap_tasks_run_on_with_a_warning(hold: Hold, start: Start, subject: Path) -> None:
    with hold(f"exec:{subject.name}", max_held=2) as holds:
        all_started = [start("work") for _ in range(5)]
        held = [holds.wait(timeout=10), holds.wait(timeout=10)]
        free = [process for process in all_started if process.pid not in {task.pid for task in held}]
        assert [process.wait(10) for process in free] == [5, 5, 5]
        warnings = [event for event in holds.events(timeout=3) if event.event == "warning"]
        assert "3 more tasks matched and ran on" in warnings[0].reason


def test_a_lease_runs_out(hold: Hold, start: Start, subject: Path) -> None:
    with hold(f"exec:{subject.name}", lease=0.3) as holds:
        process = start("work")
        holds.wait(timeout=10)
        assert process.wait(10) == 5
        assert next(holds.events(timeout=5)).reason == "its lease ran out"


@only_bpf
def test_who_is_killed_or_continued_by_others_is_no_longer_held(
    hold: Hold, start: Start, subject: Path
) -> None:
    with hold(f"exec:{subject.name}") as holds:
        killed = start("work")
        holds.wait(timeout=10)
        killed.kill()
        assert next(holds.events(timeout=5)).reason == "it ended"
        continued = start("work")
        holds.wait(timeout=10)
        continued.send_signal(signal.SIGCONT)
        assert continued.wait(10) == 5
        assert next(holds.events(timeout=5)).reason in ("somebody else continued it", "it ended")
        assert holds.held() == []


@only_bpf
def test_a_held_thread_stays_when_others_continue_its_process(
    hold: Hold, start: Start, subject: Path
) -> None:
    with hold(f"call:{subject}!clew_test_work") as holds:
        process = start("work")
        held = holds.wait(timeout=10)
        process.send_signal(signal.SIGCONT)
        session = _local(holds)
        session.call(lambda: session.book.look_over(0.0))
        assert [task.id for task in holds.held()] == [held.id]
        assert state(held) == "t"
        held.release()
        assert process.wait(10) == 5


@only_bpf
def test_a_parent_that_waits_for_stops_sees_one_and_a_release(hold: Hold, subject: Path) -> None:
    with hold(f"exec:{subject.name}") as holds:
        pid = os.posix_spawn(subject, [str(subject), "work"], os.environ)
        held = holds.wait(timeout=10)
        assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
        held.release()
        assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 5


def test_a_second_session_is_refused_and_the_first_lives_on(hold: Hold, subject: Path) -> None:
    with hold(f"exec:{subject.name}"):
        with pytest.raises(HoldError, match="runs already"), hold("exec:clew-test-other"):
            pass
        assert hold(f"exec:{subject.name}", control=False)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("call:{}!clew_test_wrok", "Did you mean clew_test_work"),
        ("call:/clew/no/such/file!main", "none is installed"),
        ("at:subject.c:99999", "no debug information|has no code"),
        ("signal:KILL", "SIGKILL"),
        ("exec:clew-test-none,tree={1}", "There is no process"),
        ("exec:clew-test-none,parent={1}", "There is no process"),
    ],
)
def test_what_can_match_nothing_is_refused(hold: Hold, subject: Path, rule: str, says: str) -> None:
    with (
        pytest.raises(ClewError, match=says),
        hold(rule.format(subject, _a_pid_that_is_gone()), command=[os.fsencode(subject)]),
    ):
        pass


def _a_pid_that_is_gone() -> int:
    with subprocess.Popen(["true"]) as process:
        return process.pid


def test_a_stripped_program_is_named_as_such(hold: Hold, subject: Path, tmp_path: Path) -> None:
    bare = tmp_path / "clew-test-stripped"
    subprocess.run(["strip", "-o", bare, subject], check=True)
    with pytest.raises(SymbolNotFound, match="stripped"), hold(f"call:{bare}!clew_test_work"):
        pass


@only_bpf
def test_a_file_that_was_replaced_is_held_too(hold: Hold, subject: Path, tmp_path: Path) -> None:
    program = tmp_path / "clew-test-replaced"
    program.write_bytes(subject.read_bytes())
    program.chmod(0o755)
    with hold(f"call:{program}!clew_test_work") as holds:
        newer = tmp_path / "newer"
        # Another build: the function lies elsewhere.
        source = tmp_path / "newer.c"
        source.write_text("int clew_before(void) { return 1; }\n" + SUBJECT)
        subprocess.run(["cc", "-g", "-O0", "-pthread", source, "-o", newer], check=True)
        newer.rename(program)
        places = _local(holds).arming.armed
        until(lambda: len(places[0].places) == 2, what="the new file's place")
        process = holds.start([program], stdout=subprocess.PIPE)
        held = holds.wait(timeout=10)
        assert held.hold.at.function == "clew_test_work"
        held.release()
        assert process.communicate(timeout=10)[0] == b"work 42 main\n"


def test_a_library_that_nobody_has_loaded_yet(hold: Hold, subject: Path, tmp_path: Path) -> None:
    source = tmp_path / "late.c"
    source.write_text('__attribute__((visibility("default"))) int clew_test_late(void) { return 3; }\n')
    library = tmp_path / "libclew-test-late.so"
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library], check=True)
    with hold(f"call:{library}!clew_test_late") as holds:
        code = f"import ctypes; raise SystemExit(ctypes.CDLL({str(library)!r}).clew_test_late())"
        process = holds.start([sys.executable, "-c", code])
        held = holds.wait(timeout=20)
        assert held.hold.at.function == "clew_test_late"
        held.release()
        assert process.wait(20) == 3


def test_overloads_in_cxx_are_told_apart(hold: Hold, subject: Path, tmp_path: Path) -> None:
    source = tmp_path / "shop.cc"
    source.write_text(
        "namespace shop { struct Cart { __attribute__((noipa)) int add(int n) { return n; }\n"
        "__attribute__((noipa)) int add(double d) { return (int)d; } }; }\n"
        "int main() { shop::Cart cart; return cart.add(1) + cart.add(2.0); }\n"
    )
    program = tmp_path / "clew-test-shop"
    subprocess.run(["c++", "-g", "-O1", source, "-o", program], check=True)
    with hold(f"call:{program}!shop::Cart::add(double)") as holds:
        process = holds.start([program])
        held = holds.wait(timeout=10)
        assert held.hold.at.function == "shop::Cart::add"
        held.release()
        assert process.wait(10) == 3
        assert [event.event for event in holds.events(timeout=0.2)] == ["released"]
    with hold(f"call:{program}!shop::*::add") as holds:
        process = holds.start([program])
        holds.wait(timeout=10).release()
        holds.wait(timeout=10).release()
        assert process.wait(10) == 3


def test_the_end_of_the_block_lets_everything_go(hold: Hold, start: Start, subject: Path) -> None:
    with hold(f"exec:{subject.name}") as holds:
        process = start("work")
        holds.wait(timeout=10)
    assert process.wait(10) == 5


def _local(holds: clew.Holding) -> HoldSession:
    session = holds.session
    assert isinstance(session, HoldSession)
    return session


def _guardian(holds: clew.Holding) -> Guardian:
    backing = _local(holds).backing
    assert isinstance(backing, BpfBacking)
    return backing.guardian


def _keeper(subject: Path) -> subprocess.Popen[bytes]:
    """A process of its own that holds, and says so for each hold."""
    code = (
        "import sys, clew\n"
        f"with clew.holding('exec:{subject.name}', engine='bpf', max_held=200) as holds:\n"
        "    print('armed', holds.session.backing.guardian.pid, flush=True)\n"
        "    while True: print(holds.wait().id, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)


@only_bpf
def test_kill_9_of_the_keeper_leaves_nobody_stopped(start: Start, subject: Path) -> None:
    keeper = _keeper(subject)
    assert keeper.stdout is not None
    assert keeper.stdout.readline().startswith(b"armed")
    held = [start("work") for _ in range(30)]
    for _ in range(20):
        keeper.stdout.readline()
    keeper.kill()
    keeper.communicate()
    assert [process.wait(10) for process in held] == [5] * 30
    pins = Path("/sys/fs/bpf")
    until(lambda: not list(pins.glob(f"clew-hold-{keeper.pid}-*")), what="the guardian has cleaned up")


@only_bpf
def test_release_all_recovers_when_the_guardian_was_killed_too(start: Start, subject: Path) -> None:
    keeper = _keeper(subject)
    assert keeper.stdout is not None
    guardian = int(keeper.stdout.readline().split()[1])
    held = [start("work") for _ in range(5)]
    for _ in range(5):
        keeper.stdout.readline()
    os.kill(keeper.pid, signal.SIGSTOP)
    os.kill(guardian, signal.SIGKILL)
    keeper.kill()
    keeper.communicate()
    assert all(signals.state(process.pid, process.pid) == "T" for process in held)
    code = "from clew.cli.main import run; run()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, "release", "--all"],
        capture_output=True,
        env=environment,
        timeout=30,
        check=True,
    )
    assert b"5 tasks" in done.stdout
    assert [process.wait(10) for process in held] == [5] * 5


@only_bpf
def test_a_killed_guardian_is_replaced(hold: Hold, start: Start, subject: Path) -> None:
    with hold(f"exec:{subject.name}") as holds:
        before = _guardian(holds).pid
        os.kill(before, signal.SIGKILL)
        event = next(holds.events(timeout=20))
        assert "another one took its place" in event.reason
        assert _guardian(holds).pid != before
        process = start("work")
        holds.wait(timeout=10).release()
        assert process.wait(10) == 5
