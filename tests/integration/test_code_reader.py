"""The reader of programs' code: what it says, and what becomes of the others if one file kills it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from clew.code import reader
from clew.code.elf import ElfFile
from clew.code.reader import Answer, Question
from tests.support.bounded import until

SOURCE = Path(__file__).resolve().parent.parent / "programs" / "stack" / "deep.c"
LINES = "clew.code.naming:lines"

pytestmark = pytest.mark.requires("compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("lines") / "deep"
    flags = ("-g", "-O2", "-pthread", "-w", "-D_GNU_SOURCE", "-Wl,--build-id")
    subprocess.run(["gcc", *flags, SOURCE, "-o", built], check=True)
    return built


def addresses_of(program: Path, function: bytes) -> list[int]:
    (symbol,) = ElfFile.open(program).symtab.named(function)
    return list(range(symbol.value, symbol.value + symbol.size))


def question(program: Path, function: bytes = b"outermost", build_id: str | None = None) -> Question:
    own = ElfFile.open(program).build_id.hex()
    return Question((program,), (own if build_id is None else build_id, addresses_of(program, function)))


def lines(*questions: Question) -> list[Answer]:
    return reader.ask(LINES, questions)


def known(answer: Answer) -> bool:
    return not answer.refused and any(answer.value)


def test_agrees_with_addr2line(program: Path) -> None:
    asked = question(program, b"innermost")
    (answer,) = lines(asked)
    for address, rows in zip(asked.arguments[1], answer.value, strict=True):
        command = ["addr2line", "-fis", "-e", str(program), hex(address)]
        told = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\n")[:-1]
        expected = [
            (function, *position.split(" ")[0].split(":"))
            for function, position in zip(told[::2], told[1::2], strict=True)
        ]
        assert [(function, Path(file).name, str(line)) for function, file, line in rows] == expected


def test_nothing_is_said_of_unknown_addresses(program: Path) -> None:
    asked = Question((program,), ("", [0, 1 << 40, 2**63, 2**64 - 1]))
    assert lines(asked) == [Answer([[], [], [], []])]


def test_a_file_of_another_build_id_says_nothing(program: Path) -> None:
    assert known(lines(question(program))[0])
    assert not known(lines(question(program, build_id="01" * 20))[0])


def test_files_that_cannot_be_read_spare_the_others(program: Path, tmp_path: Path) -> None:
    good = question(program)
    text, fifo, cut = tmp_path / "text", tmp_path / "fifo", tmp_path / "cut"
    text.write_text("no ELF file")
    os.mkfifo(fifo)
    cut.write_bytes(program.read_bytes()[:5000])
    places = (text, fifo, cut, tmp_path / "missing", tmp_path)
    answers = lines(good, *(Question((path,), ("", good.arguments[1])) for path in places), good)
    assert answers[0] == answers[-1] == lines(good)[0]
    assert known(answers[0])
    assert not any(known(answer) for answer in answers[1:-1])


def test_hostile_names_of_files_are_only_names(program: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"a\nb\xff\"'\\.so")
    shutil.copy(program, odd)
    assert lines(Question((odd,), question(program).arguments)) == lines(question(program))


def _children(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, (task / "children").read_text().split())


@pytest.mark.parametrize("whom", ["child", "reader"])
def test_a_file_that_kills_its_reader_spares_the_others(whom: str, program: Path) -> None:
    # No file is known to kill it; so we do, while it reads the first one.
    asked = question(program)
    build_id, addresses = asked.arguments
    endless = Question((program,), (build_id, addresses * 200_000))
    killed: list[int] = []

    def kill_the_first() -> None:
        pid = reader.start().pid
        child = until(lambda: next(_children(pid), 0), what="a child of the reader")
        killed.append(child if whom == "child" else pid)
        os.kill(killed[0], signal.SIGKILL)

    reader.start()
    killer = threading.Thread(target=kill_the_first)
    killer.start()
    answers = lines(endless, asked)
    killer.join()
    assert killed
    assert "crash" in answers[0].refused
    assert answers[1] == lines(asked)[0]


def test_the_reader_is_not_led_astray_by_the_current_directory(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "drgn.py").write_text("raise SystemExit(1)")
    (tmp_path / "clew").mkdir()
    (tmp_path / "clew" / "__init__.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    assert _from_a_thread(lambda: known(fresh().ask(LINES, [question(program)])[0]))


def fresh() -> reader.Reader:
    return reader.Reader((reader.PLACES, reader.NAMES))


def _from_a_thread(act: Any) -> Any:
    """What ``act`` returns where there are several threads, so that the reader is no fork of ours."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(act()))
    thread.start()
    thread.join()
    return answers[0]


def test_it_reads_without_rights() -> None:
    """The rights of whoever reads a file, as it says itself."""
    (answer,) = fresh().ask("clew.code.places:rights", [Question((Path("/bin/sh"),))])
    said = answer.value
    assert said["CapEff"] == said["CapPrm"] == "0" * 16
    assert said["NoNewPrivs"] == "1"
    assert said["Seccomp"] == "2"
    if os.geteuid() == 0:
        assert "0" not in said["Uid"].split()
        assert said["Groups"] == ""
