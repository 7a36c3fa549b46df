"""``clew rules explain``: what it prints, as text and as JSON."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clew.cli import rules
from clew.cli.main import main
from clew.errors import RuleError, UsageError
from clew.model.rules import Facts, RuleKind
from tests.support.script import Script

EVENTS = [
    Facts(RuleKind.EXEC, 10, b"/usr/bin/qemu", argv=(b"qemu", b"guest=\x1b[2Jtiny"), t_ns=1_500_000),
    Facts(RuleKind.EXEC, 11, b"/usr/bin/qemu", argv=(b"qemu", b"none"), t_ns=2_000_000),
    Facts(RuleKind.EXEC, 12, b"/usr/bin/sh", argv=(b"sh",), t_ns=3_000_000),
]


def explain(*words: str) -> int:
    def recorded(path: bytes) -> Iterator[Facts]:
        assert path == b"start.clew"
        yield from EVENTS

    parser = argparse.ArgumentParser()
    rules.add_parser(parser.add_subparsers())
    return rules.run(parser.parse_args(["rules", "explain", *words]), recorded)


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("exec:qemu", "not:exec:gdb") == 0
    assert capsys.readouterr().out == (
        "exec:qemu\n"
        "    Holds a process at the first instruction of a program named 'qemu'.\n"
        "not:exec:gdb\n"
        "    Never holds a process that runs a program named 'gdb'.\n"
    )


def test_a_recording(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("--trace", "start.clew", "exec:qemu,max=1", "!exec:*,argv=none") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "    In the recording: 1 hit, 1 more excluded, 1 held."
    assert lines[3].split() == ["1.500", "ms", "exec", "10", "qemu", r"guest=\x1b[2Jtiny"]


def test_a_hop_is_explained_by_what_it_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = Script()
    script.command("root").fork("child")
    trace = script.trace(tmp_path).path
    assert explain(f"hop:{trace}#1") == 0
    assert "Holds a new process, before it runs" in capsys.readouterr().out
    with pytest.raises(RuleError, match="no hop 9"):
        explain(f"hop:{trace}#9")


def test_a_rule_that_means_nothing_is_refused_and_not_asked_about() -> None:
    with pytest.raises(RuleError, match="SIGKILL"):
        main(["hold", "--engine", "bpf", "signal:KILL"])


def test_what_a_recording_cannot_tell_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    explain("--trace", "start.clew", "syscall:getppid", "call:f", "exec:*")
    unseen = [line for line in capsys.readouterr().out.splitlines() if line.startswith("    (It has")]
    assert len(unseen) == 2


def test_many_hits_are_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_MOST_SHOWN", 2)
    explain("--trace", "start.clew", "exec:*")
    assert capsys.readouterr().out.splitlines()[-1] == "      and 1 more: --json lists them all"


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("--json", "--trace", "start.clew", "exec:qemu,argv=guest*", "!tree:sshd") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["exclusions"][0]["rule"] == "!tree:sshd"
    (rule,) = found["rules"]
    assert (rule["hits"], rule["excluded"]) == (1, 0)
    assert rule["held"] == [
        {
            "kind": "exec",
            "pid": 10,
            "tid": 10,
            "comm": "",
            "exe": "/usr/bin/qemu",
            "argv": ["qemu", "guest=\x1b[2Jtiny"],
            "t_ms": 1.5,
        }
    ]


def test_a_rule_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(f'[[rule]]\nfork = "a"\nuid = {os.getuid()}\n')
    assert explain("--file", str(file)) == 0
    assert capsys.readouterr().out.startswith(f"fork:a,uid={os.getuid()}\n    Holds a new process")


@pytest.mark.parametrize("content", [b"\xff", None])
def test_an_unreadable_rule_file(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "rules.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match="rule file"):
        explain("--file", str(file))


def test_nothing_to_explain() -> None:
    with pytest.raises(UsageError, match="There is no rule"):
        explain()


def test_users_are_this_machines() -> None:
    explain("exec:a,uid=root")
    with pytest.raises(RuleError, match="no user"):
        explain("exec:a,uid=no-such-user-here")
