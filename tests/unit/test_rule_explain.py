"""Each rule's sentence."""

from __future__ import annotations

import pytest

from clew.model.rules import explain, parse_rule

SENTENCES = [
    ("exec:*", "Holds a process at the first instruction of any program."),
    (
        "exec:*qemu-*,argv=*guest=tiny*,uid=0,n=2",
        "Holds a process at the first instruction of a program named '*qemu-*', if an argument, or "
        "the whole command line, matches '*guest=tiny*' and its user id is 0; only the 2nd time.",
    ),
    (
        "fork:/usr/sbin/libvirtd,max=3",
        "Holds a new process, before it runs, when its parent runs a program with the path "
        "'/usr/sbin/libvirtd'; only the first 3 times.",
    ),
    ("call:main,n=1", "Holds a thread as it enters the function 'main'; only the first time."),
    ("call:lib*!vir*", "Holds a thread as it enters a function like 'vir*' of the file 'lib*'."),
    ("at:a.c:3", "Holds a thread as it comes to line 3 of the source file 'a.c'."),
    ("syscall:openat", "Holds a thread that makes the system call 'openat', before it runs."),
    ("signal:INT", "Holds a thread that is about to receive SIGINT."),
    ("signal:USR*", "Holds a thread that is about to receive SIGUSR1 or SIGUSR2."),
    ("signal:*", "Holds a thread that is about to receive one of 64 signals, SIGHUP to SIGRTMIN+30."),
    (
        "exit:a,n=11,max=13",
        "Holds a process that runs a program named 'a', as it exits and before it is gone; only the 11th "
        "to the 23rd time.",
    ),
    ("hop:t.clew#7", "Holds a task where hop 7 of the recording 't.clew' left."),
    (
        "fork:a,parent!=12,lineage!=sh,tree=cmd",
        "Holds a new process, before it runs, when its parent runs a program named 'a', if its parent is "
        "not process 12, no process above it is 'sh' and it is the command that clew starts or below it.",
    ),
    ("!exec:sh", "Never holds a process that runs a program named 'sh'."),
    ("!tree:12,comm!=x", "Never holds process 12, nor any below it, if its thread is not named 'x'."),
]


@pytest.mark.parametrize(("text", "sentence"), SENTENCES, ids=[text for text, _ in SENTENCES])
def test_sentences(text: str, sentence: str) -> None:
    assert explain(parse_rule(text)) == sentence


def test_the_verb_is_the_callers() -> None:
    assert explain(parse_rule("exit:a"), "Reaches").startswith("Reaches a process that runs")


def test_nothing_unprintable_gets_out() -> None:
    sentence = explain(parse_rule("exec:\x1b[2J\u202e\udcff,argv=\n"))
    assert sentence.isprintable()
    assert r"\x1b[2J\u{202e}\xff" in sentence
