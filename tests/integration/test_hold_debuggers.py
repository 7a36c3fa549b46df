"""The commands and the debuggers: a held task is opened at its place, and stays held when they quit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from clew.kernel import signals
from tests.support.bounded import until

BOTH = [
    pytest.param("bpf", marks=pytest.mark.requires("root", "bpf")),
    pytest.param("ptrace", marks=pytest.mark.requires("ptrace")),
]
only_bpf = pytest.mark.parametrize("engine", BOTH[:1], indirect=True)
once = pytest.mark.parametrize("engine", BOTH[1:], indirect=True)
needs_gdb = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
needs_lldb = pytest.mark.skipif(shutil.which("lldb") is None, reason="lldb is not installed")

SUBJECT = r"""
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
__attribute__((noipa)) int clew_test_step(int number) { return number + 1; }
__attribute__((noipa)) int clew_test_work(int number, const char *text) {
    int next = clew_test_step(number);
    dprintf(1, "work %d %s\n", next, text);
    return next;
}
static void *rest(void *unused) { for (;;) pause(); return unused; }
int main(int argc, char **argv) {
    pthread_t one;
    if (argc > 1) {
        pid_t child = fork();
        if (!child) { execl(argv[1], argv[1], (char *)0); _exit(1); }
        dprintf(1, "started\n");
        int status;
        waitpid(child, &status, 0);
        return WEXITSTATUS(status);
    }
    pthread_create(&one, NULL, rest, NULL);
    clew_test_work(41, "main");
    return 5;
}
"""
WAIT_FOR_H1 = """python
import time
while 'H1' not in gdb.execute('clew holds', to_string=True):
    time.sleep(0.01)
end"""
CLEW = [sys.executable, "-c", "from clew.cli.main import run; run()"]


class Terminal:
    """clew as a user runs it, in a runtime folder of its own."""

    def __init__(self, folder: Path, engine: str) -> None:
        folder.mkdir(mode=0o700)
        self._engine = engine
        self.environment = {
            **os.environ,
            "CLEW_RUNTIME_DIR": str(folder),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "CLEW_COMMAND": json.dumps(CLEW),
        }
        self._running: list[subprocess.Popen[str]] = []

    def run(self, *words: str | Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*CLEW, *words],
            check=False,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=90,
            stdin=subprocess.DEVNULL,
        )
        assert not ok or done.returncode == 0, done.stderr
        return done

    def hold(self, *words: str | Path) -> subprocess.Popen[str]:
        """``clew hold --json …``; ``told`` reads what it says."""
        process = subprocess.Popen(
            [*CLEW, "hold", "--engine", self._engine, "--json", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        self._running.append(process)
        return process

    def close(self) -> None:
        for process in self._running:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line of JSON among what the process and its command print."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found
    raise AssertionError(process.stderr.read() if process.stderr else "")


@pytest.fixture(autouse=True, params=BOTH)
def engine(request: pytest.FixtureRequest) -> str:
    """Each test runs with both engines, unless it says with which."""
    found: str = request.param
    return found


@pytest.fixture
def terminal(engine: str, tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path / "run", engine)
    yield made
    made.close()


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("subject")
    source = folder / "subject.c"
    source.write_text(SUBJECT)
    program = folder / f"clew-test-d{os.getpid()}"
    subprocess.run(["cc", "-g", "-O1", "-pthread", source, "-o", program], check=True)
    return program


def test_the_commands_see_and_release_a_hold(terminal: Terminal, subject: Path) -> None:
    keeper = terminal.hold(f"call:{subject}!clew_test_work", "--", subject)
    held = told(keeper)
    assert (held["event"], held["hold"], held["scope"], held["exact"]) == ("held", "H1", "thread", "function")
    assert held["at"]["function"] == "clew_test_work"
    assert held["at"]["module"] == str(subject)
    assert 599 < held["lease_s"] <= 600
    (shown,) = json.loads(terminal.run("ps", "--json").stdout)
    assert {shown[key] == held[key] for key in ("pid", "tid", "rule", "argv", "exe", "at")} == {True}
    assert "clew_test_work" in terminal.run("ps").stdout
    frames = json.loads(terminal.run("bt", "H1", "--json").stdout)
    assert [frame["function"] for frame in frames[:2]] == ["clew_test_work", "main"]
    assert "no hold 'H7'" in terminal.run("release", "H7", ok=False).stderr
    assert "H1" in terminal.run("release", "H1").stdout
    assert told(keeper)["reason"] == "released"
    assert keeper.wait(20) == 5


def test_the_command_status_is_ours_and_a_missing_one_is_127(terminal: Terminal, subject: Path) -> None:
    assert terminal.hold("exec:clew-test-none", "--", "sh", "-c", "exit 33").wait(30) == 33
    assert terminal.hold("exec:clew-test-none", "--", "/no/such/program").wait(30) == 127


def test_rules_come_from_a_file(terminal: Terminal, subject: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(
        f'[[rule]]\nexec = "{subject.name}"\nnot = {{ argv = "other" }}\n'
        '[[exclude]]\nexec = "clew-test-none"\n'
    )
    keeper = terminal.hold("--file", rules, "--", subject)
    held = told(keeper)
    assert (held["exact"], held["scope"]) == ("entry", "process")
    terminal.run("release", "all")
    assert keeper.wait(20) == 5


def test_a_recorded_hop_names_a_stop(terminal: Terminal, subject: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    terminal.run("follow", "-q", "-o", trace, "--scope", "tree", "--", subject, "/bin/true")
    hops = json.loads(terminal.run("show", trace, "--format", "json").stdout)["hops"]
    number = next(hop["n"] for hop in hops if hop["kind"] == "exec")
    keeper = terminal.hold(f"hop:{trace}#{number}", "--", subject, "/bin/true")
    assert told(keeper)["argv"] == ["/bin/true"]
    terminal.run("release", "H1")
    assert keeper.wait(30) == 0
    refused = terminal.run("hold", f"hop:{trace}#999", ok=False)
    assert "no hop 999" in refused.stderr


@only_bpf
def test_interrupt_ends_and_lets_go(terminal: Terminal, subject: Path) -> None:
    keeper = terminal.hold(f"exec:{subject.name}")
    until(lambda: terminal.run("ps", "--json").stdout.strip() == "[]" and _listens(terminal), what="armed")
    process = subprocess.Popen([subject])
    assert told(keeper)["event"] == "held"
    keeper.send_signal(signal.SIGINT)
    assert keeper.wait(20) == 0
    assert process.wait(20) == 5


@only_bpf
def test_interrupt_while_rules_are_armed_ends_at_once(terminal: Terminal) -> None:
    keeper = terminal.hold("exec:clew-test-none", "fork:clew-test-none")
    until(lambda: any("bpf" in place for place in _open_files(keeper.pid)), what="loading")
    keeper.send_signal(signal.SIGINT)
    said = keeper.communicate(timeout=20)
    assert keeper.returncode == 130
    assert "Traceback" not in said[1]


def _open_files(pid: int) -> list[str]:
    found = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.append(str(file.readlink()))
    return found


def _listens(terminal: Terminal) -> bool:
    return Path(terminal.environment["CLEW_RUNTIME_DIR"], "hold.sock").exists()


@only_bpf
def test_critical_programs_need_a_yes(terminal: Terminal) -> None:
    refused = terminal.run("hold", "exec:*", ok=False)
    assert refused.returncode == 125
    assert "systemd" in refused.stderr and "--yes" in refused.stderr


@once
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["hold", "exce:x"], "Did you mean exec:x"),
        (["hold"], "no rule"),
        (["hold", "exec:clew-test-x", "--lease", "never"], "--lease"),
        (["hold", "exec:clew-test-x", "--max-held", "0"], "--max-held"),
        (["hold", "--engine", "ptrace", "exec:clew-test-x"], "there is no command"),
        (["hold", "--engine", "ptrace", "-p", "4194303", "exec:clew-test-x"], "4194303"),
        (["ps"], "Nothing is held"),
        (["release", "H1"], "Nothing is held"),
        (["gdb", "H1"], "Nothing is held"),
        (["bt", "H1"], "Nothing is held"),
    ],
)
def test_bad_input_is_one_paragraph(terminal: Terminal, words: list[str], says: str) -> None:
    done = terminal.run(*words, ok=False)
    assert done.returncode == 125
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@needs_gdb
def test_gdb_opens_at_the_place_and_leaves_it_held(terminal: Terminal, subject: Path) -> None:
    keeper = terminal.hold(f"call:{subject}!clew_test_work", "--", subject)
    held = told(keeper)
    first = terminal.run("gdb", "H1", "--", "-batch", "-ex", "info args", "-ex", "bt", "-ex", "info threads")
    assert "number = 41" in first.stdout
    assert "#0  " in first.stdout and "clew_test_work (number=number@entry=41" in first.stdout
    assert first.stdout.count("LWP") >= 2
    until(lambda: signals.state(held["pid"], held["tid"]) == "T", what="held after gdb")
    second = terminal.run(
        "gdb", "H1", "--", "-batch", "-ex", "break clew_test_step", "-ex", "continue", "-ex", "bt"
    )
    assert "hit Breakpoint 1, clew_test_step" in second.stdout
    assert "SIGSTOP" not in second.stdout
    until(lambda: signals.state(held["pid"], held["tid"]) == "T", what="held after gdb had continued it")
    assert [hold["hold"] for hold in json.loads(terminal.run("ps", "--json").stdout)] == ["H1"]
    terminal.run("release", "H1")
    assert keeper.wait(20) == 5


@needs_gdb
def test_a_debugger_that_crashes_leaves_a_consistent_list(terminal: Terminal, subject: Path) -> None:
    keeper = terminal.hold(f"call:{subject}!clew_test_work", "--", subject)
    held = told(keeper)
    terminal.run("gdb", "H1", "--", "-batch", "-ex", "python import os; os.kill(os.getpid(), 9)", ok=False)
    until(lambda: signals.tracer(held["tid"]) == 0, what="gdb gone")
    if json.loads(terminal.run("ps", "--json").stdout):
        terminal.run("release", "H1", ok=False)
    assert keeper.wait(30) == 5


@needs_lldb
def test_lldb_opens_at_the_place_and_leaves_it_held(terminal: Terminal, subject: Path) -> None:
    keeper = terminal.hold(f"call:{subject}!clew_test_work", "--", subject)
    held = told(keeper)
    shown = terminal.run("lldb", "H1", "--", "--batch", "-o", "bt").stdout
    assert "clew_test_work(number=41" in shown
    until(lambda: signals.state(held["pid"], held["tid"]) == "T", what="held after lldb")
    terminal.run("release", "H1")
    assert keeper.wait(20) == 5


@needs_gdb
def test_handover_leaves_it_plainly_stopped(terminal: Terminal, subject: Path) -> None:
    keeper = terminal.hold(f"call:{subject}!clew_test_work", "--", subject)
    held = told(keeper)
    given = json.loads(terminal.run("handover", "H1", "--json").stdout)
    assert (given["state"], given["pid"], given["tid"]) == ("T", held["pid"], held["tid"])
    assert signals.tracer(held["tid"]) == 0
    terminal.run("release", "all")
    assert keeper.wait(20) == 5


@only_bpf
@needs_gdb
@pytest.mark.parametrize(("wish", "place"), [("on", "_start"), ("fork:*", "ork")])
def test_children_wait_inside_gdb(terminal: Terminal, subject: Path, wish: str, place: str) -> None:
    line = next(n for n, text in enumerate(SUBJECT.splitlines(), 1) if "waitpid" in text)
    plugin = terminal.run("gdb-plugin").stdout.strip()
    commands = [
        plugin,
        f"clew childdbg {wish}",
        "shell true",
        f"break subject.c:{line}",
        f"run {subject}",
        WAIT_FOR_H1,
        "clew holds",
        "clew take H1",
        "info inferiors",
        "bt 3",
        "clew release H1",
        "inferior 1",
        "continue",
    ]
    script = Path(terminal.environment["CLEW_RUNTIME_DIR"], "script")
    script.write_text("\n".join(commands))
    done = subprocess.run(
        ["gdb", "-q", "-batch", "-x", script, subject],
        check=False,
        capture_output=True,
        text=True,
        env=terminal.environment,
        timeout=90,
    )
    said = done.stdout + done.stderr
    assert place in said, said
    assert "* 2    process" in said
    assert "exited with code 05" in said
