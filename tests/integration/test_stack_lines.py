"""DWARF in a process of its own: what it says, and what becomes of the others if one file kills it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from clew.code.elf import ElfFile
from clew.code.lines import Question, place
from tests.support.bounded import until

SOURCE = Path(__file__).resolve().parent.parent / "programs" / "stack" / "deep.c"

pytestmark = pytest.mark.requires("compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("lines") / "deep"
    flags = ("-g", "-O2", "-pthread", "-w", "-D_GNU_SOURCE", "-Wl,--build-id")
    subprocess.run(["gcc", *flags, SOURCE, "-o", built], check=True)
    return built


def addresses_of(program: Path, function: bytes) -> tuple[int, ...]:
    (symbol,) = ElfFile.open(program).symtab.named(function)
    return tuple(range(symbol.value, symbol.value + symbol.size))


def question(program: Path, function: bytes = b"outermost") -> Question:
    return Question(program, ElfFile.open(program).build_id, addresses_of(program, function))


def test_agrees_with_addr2line(program: Path) -> None:
    asked = question(program, b"innermost")
    (answer,) = place([asked])
    for address in asked.addresses:
        command = ["addr2line", "-fis", "-e", str(program), hex(address)]
        told = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\n")[:-1]
        expected = [
            (function, *position.split(" ")[0].split(":"))
            for function, position in zip(told[::2], told[1::2], strict=True)
        ]
        ours = [(at.function, Path(at.file).name, str(at.line)) for at in answer[address]]
        assert ours == expected


def test_unknown_addresses_are_absent(program: Path) -> None:
    build_id = ElfFile.open(program).build_id
    assert place([Question(program, build_id, (0, 1 << 40, 2**63, 2**64 - 1))]) == [{}]


def test_a_file_of_another_build_id_says_nothing(program: Path) -> None:
    asked = question(program)
    assert place([asked])[0]
    assert place([Question(program, b"\x01" * 20, asked.addresses)]) == [{}]


def test_files_that_cannot_be_read_spare_the_others(program: Path, tmp_path: Path) -> None:
    good = question(program)
    text, fifo, cut = tmp_path / "text", tmp_path / "fifo", tmp_path / "cut"
    text.write_text("no ELF file")
    os.mkfifo(fifo)
    cut.write_bytes(program.read_bytes()[:5000])
    bad = [Question(path, b"", good.addresses) for path in (text, fifo, cut, tmp_path / "missing", tmp_path)]
    answers = place([good, *bad, good])
    assert answers[0] == answers[-1] == place([good])[0]
    assert answers[1:-1] == [{}] * len(bad)


def test_hostile_names_of_files_are_only_names(program: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"a\nb\xff\"'\\.so")
    shutil.copy(program, odd)
    asked = question(program)
    assert place([Question(odd, asked.build_id, asked.addresses)]) == place([asked])


def test_a_file_that_kills_the_reader_spares_the_others(program: Path) -> None:
    # No file is known to kill it; so the kernel does, while it reads the first one.
    asked = question(program)
    endless = Question(program, asked.build_id, asked.addresses * 200_000)
    killed: list[int] = []

    def kill_the_first() -> None:
        killed.append(until(lambda: next(_readers(), 0), what="a reader"))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    answers = place([endless, asked])
    killer.join()
    assert killed
    assert answers == [{}, place([asked])[0]]


def _readers() -> Iterator[int]:
    """The readers that this process has started."""
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            with suppress(OSError):
                if b"clew.code.lines_worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    yield int(pid)


def test_the_reader_is_not_led_astray_by_the_current_directory(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "drgn.py").write_text("raise SystemExit(1)")
    (tmp_path / "clew").mkdir()
    (tmp_path / "clew" / "__init__.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    assert place([question(program)])[0]
