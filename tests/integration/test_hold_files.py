"""Rules and the files they mean: replaced, written anew, not there yet, and used by half the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import clew
from clew.errors import HoldError
from clew.hold.arming import Arming
from clew.hold.options import HoldOptions
from clew.hold.reach import Reach
from clew.hold.session import HoldSession
from clew.kernel.syscalls import numbers
from clew.model.rules import Vocabulary, parse_rules
from tests.support.bounded import until

pytestmark = pytest.mark.requires("root", "bpf")

SUBJECT = r"""
#include <unistd.h>
#ifdef PADDED
__attribute__((noipa)) int clew_test_other(int n) { for (int i = 0; i < n; i++) getppid(); return n; }
#endif
__attribute__((noipa)) int clew_test_file(int number) { return number + 1; }
int main(void) {
#ifdef PADDED
    clew_test_other(3);
#endif
    return clew_test_file(4);
}
"""


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("subject")
    source = folder / "subject.c"
    source.write_text(SUBJECT)
    for name, flags in (("one", []), ("two", ["-DPADDED"])):
        subprocess.run(["cc", "-g", "-O1", *flags, source, "-o", folder / name], check=True)
    return folder / "one", folder / "two"


def _write_anew(version: Path, program: Path) -> None:
    """As cp(1) does: the same inode with other bytes."""
    with program.open("r+b" if program.exists() else "wb") as file:
        file.truncate(0)
        file.write(version.read_bytes())
    program.chmod(0o755)


def _size_seen(arming: Arming, program: Path) -> int:
    return arming._attached[os.fsencode(program)][2]


def _held_in(holds: clew.Holding, program: Path) -> str:
    process = subprocess.Popen([program])
    held = holds.wait(timeout=10)
    found = held.hold.at.function
    held.release()
    assert process.wait(10) == 5
    return found


def test_a_file_that_is_written_anew_is_looked_through_again(
    versions: tuple[Path, Path], tmp_path: Path
) -> None:
    program = tmp_path / f"clew-test-v{os.getpid()}"
    _write_anew(versions[0], program)
    with clew.holding(f"call:{program}!clew_test_file", engine="bpf", control=False) as holds:
        assert _held_in(holds, program) == "clew_test_file"
        for version in (versions[1], versions[0]):
            _write_anew(version, program)
            arming = holds.session.arming  # type: ignore[attr-defined]
            size = version.stat().st_size
            seen = partial(_size_seen, arming, program)
            until(lambda seen=seen, size=size: seen() == size, what="it was seen")  # type: ignore[misc]
            assert _held_in(holds, program) == "clew_test_file"


def test_a_rule_waits_for_its_file(versions: tuple[Path, Path], tmp_path: Path) -> None:
    program = tmp_path / f"clew-test-w{os.getpid()}"
    with clew.holding(f"call:{program}!clew_test_file", engine="bpf", control=False) as holds:
        (note,) = holds.session.notes()
        assert "waiting for" in note and program.name in note
        shutil.copy(versions[0], program)
        until(lambda: not holds.session.notes(), what="the rule is in force")
        assert _held_in(holds, program) == "clew_test_file"


def test_a_session_takes_any_number_of_rules_after_each_other(versions: tuple[Path, Path]) -> None:
    rules = parse_rules([f"call:{versions[0]}!clew_test_file"], Vocabulary(numbers(), lambda _name: None))
    session = HoldSession(parse_rules(["exec:clew-test-nobody"]), HoldOptions())
    session.start()
    arm = partial(session.arming.arm, rules)
    try:
        for _ in range(66):
            (armed,) = session.call(arm)
            session.call(partial(session.arming.disarm, armed.number))
        many = [session.call(arm) for _ in range(63)]
        with pytest.raises(HoldError, match="64"):
            session.call(arm)
        assert len({armed.number for (armed,) in many}) == 63
    finally:
        session.close()


@pytest.mark.parametrize("rule", ["call:malloc", "call:write"])
def test_a_rule_that_half_the_machine_would_meet_is_asked_about(rule: str) -> None:
    shell = subprocess.Popen(["/bin/bash", "-c", "read line"], stdin=subprocess.PIPE)
    asked: list[Reach] = []

    class NoError(Exception):
        """The answer."""

    def confirm(found: Reach) -> None:
        asked.append(found)
        raise NoError

    rules = parse_rules([rule], Vocabulary(numbers(), lambda _name: None))
    with pytest.raises(NoError):
        HoldSession(rules, HoldOptions(confirm=confirm))
    shell.communicate(b"\n")
    assert asked[0].processes >= 1 and "bash" in asked[0].critical


def test_hold_says_how_many_processes_it_would_stop(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    shell = subprocess.Popen(["/bin/bash", "-c", "read line"], stdin=subprocess.PIPE)
    done = subprocess.run(
        [sys.executable, "-c", "from clew.cli.main import run; run()", "hold", "call:malloc"],
        env={**os.environ, "CLEW_RUNTIME_DIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    shell.communicate(b"\n")
    assert done.returncode == 125
    assert "processes that run now" in done.stderr and "--yes" in done.stderr
