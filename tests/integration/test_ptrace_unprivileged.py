"""The ptrace engine for whom it is made: a user who is not root, also inside a container."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from clew.errors import EngineError
from clew.model.event import EventKind
from tests.support.bounded import until
from tests.support.nobody import NOBODY, as_nobody, shared_folder
from tests.support.tracing import Lines, compiled, record, status_field

pytestmark = pytest.mark.requires("compiler")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that an ordinary user may write to, with the tracer within."""
    with shared_folder() as path:
        yield path


def _own_copy(folder: Path, source: str, mode: int = 0o755) -> Path:
    program = folder / "program"
    shutil.copy(compiled(source), program)
    program.chmod(mode)
    return program


def _namespaces() -> None:
    subprocess.run(["unshare", "--user", "--map-root-user", "true"], check=True)


TELLS_IDS = "#include <unistd.h>\nint main(void) { return geteuid() == 0; }\n"


def test_an_ordinary_user_records_his_tree(folder: Path) -> None:
    def act(work: Path) -> None:
        done = record(work, "sh", "-c", "echo hello | cat >/dev/null; true")
        assert (done.outcome.wait_status, done.outcome.lost, done.outcome.notes) == (0, {}, [])
        names = {life.blob.rpartition(b"/")[2] for life in done.lives if life.kind == EventKind.EXECED}
        assert names == {b"sh", b"cat"}
        assert 6 in done.events(EventKind.SEND)["ret"]
        assert all(life.uid == os.geteuid() for life in done.lives if life.kind == EventKind.EXECED)

    as_nobody(folder, act)


@pytest.mark.requires("root")
@pytest.mark.parametrize("filtered", [True, False])
def test_a_setuid_program_is_announced(filtered: bool, folder: Path) -> None:
    program = _own_copy(folder, TELLS_IDS, 0o755 | stat.S_ISUID)

    def act(work: Path) -> None:
        outcome = record(work, "sh", "-c", f"{program}; exit $?", filtered=filtered).outcome
        assert outcome.wait_status == 0, "it ran as root"
        assert outcome.notes == [
            f"{program} is meant to run with the rights of root, and runs without them:"
            " clew traces it without being root."
        ]

    as_nobody(folder, act)


@pytest.mark.requires("root")
def test_for_root_a_setuid_program_keeps_its_rights(folder: Path) -> None:
    program = _own_copy(folder, TELLS_IDS, 0o755 | stat.S_ISUID)
    drop = ("setpriv", f"--reuid={NOBODY}", "--clear-groups", program)
    (folder / "root").mkdir()
    outcome = record(folder / "root", *drop).outcome
    assert (outcome.wait_status, outcome.notes) == (1 << 8, [])


def test_inside_an_unprivileged_user_namespace(folder: Path) -> None:
    def act(work: Path) -> None:
        inside = ("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc")
        done = record(work, *inside, "sh", "-c", "echo hello | cat >/dev/null; exit 3")
        assert done.outcome.wait_status == 3 << 8
        names = [life.blob.rpartition(b"/")[2] for life in done.lives if life.kind == EventKind.EXECED]
        assert names[:2] == [b"unshare", b"sh"]
        assert 6 in done.events(EventKind.SEND)["ret"]

    try:
        as_nobody(folder, lambda _: _namespaces())
    except AssertionError:
        pytest.skip("this kernel gives an ordinary user no namespaces")
    as_nobody(folder, act)


# Threads that talk, and children now and then, until it is killed.
BUSY = """
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
static int ends[2];
static void *take(void *unused) { char c; while (read(ends[0], &c, 1) == 1); return unused; }
int main(void) {
    pthread_t thread;
    alarm(60);
    if (pipe(ends) || pthread_create(&thread, NULL, take, NULL) || pthread_create(&thread, NULL, take, NULL))
        return 1;
    for (int i = 0;; i++) {
        pid_t child = i % 20 ? 0 : fork();
        if (i % 20 == 0 && child == 0)
            return execl("/bin/true", "true", NULL);
        if (write(ends[1], "x", 1) != 1 || (child && waitpid(child, NULL, 0) != child))
            return 2;
    }
}
"""


def test_an_ordinary_user_attaches_to_his_threads_and_their_children(folder: Path) -> None:
    program = _own_copy(folder, BUSY)

    def act(work: Path) -> None:
        with subprocess.Popen([program]) as busy:
            until(lambda: status_field(busy.pid, "Threads") == "3", what="three threads")
            seen = work / "trace" / "events.spool"
            enough = 500 * 64
            done = record(
                work, pids=[busy.pid], stopping=lambda: seen.exists() and seen.stat().st_size > enough
            )
            children = {life.pid for life in done.lives if life.kind == EventKind.EXECED and life.t}
            assert children
            assert busy.pid not in children
            talking = done.events(EventKind.SEND, EventKind.RECV)
            assert len({int(tid) for tid in talking["tid"][talking["pid"] == busy.pid]}) == 3
            tasks = [path.name for path in Path(f"/proc/{busy.pid}/task").iterdir()]
            until(lambda: all(status_field(int(tid), "TracerPid") == "0" for tid in tasks), what="let go")
            assert busy.poll() is None
            assert status_field(busy.pid, "NoNewPrivs") == "0"
            busy.kill()

    as_nobody(folder, act)


def test_an_ordinary_users_tracer_is_killed(folder: Path) -> None:
    """The program goes on under the heir: each call of it works."""

    def act(work: Path) -> None:
        told, given = os.pipe()
        count = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i | cat >/dev/null || exit 1; done"
        if os.fork() == 0:
            os.dup2(given, 1)
            os.close(told)
            os.close(given)
            with suppress(EngineError):
                record(work, "sh", "-c", f"echo $$; {count}; echo done")
            os._exit(0)
        os.close(given)
        lines = Lines(told)
        shell = int(lines.next())
        os.kill(int(status_field(shell, "TracerPid")), signal.SIGKILL)
        assert lines.next() == b"done"
        assert lines.next() == b""

    as_nobody(folder, act)
