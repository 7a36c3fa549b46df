"""Rules from their text: what each part becomes, and what is said about a fault and where."""

from __future__ import annotations

import pytest

from clew.errors import RuleError
from clew.kernel.syscalls import numbers
from clew.model.rules import (
    Condition,
    Exclusion,
    Field,
    Function,
    Glob,
    RecordedHop,
    Rule,
    RuleKind,
    Signals,
    SourceLine,
    Syscalls,
    TreeRoot,
    Vocabulary,
    caret,
    parse_rule,
    parse_rules,
    parse_target,
)

WORDS = Vocabulary(numbers("x86_64"), {"root": 0, "libvirt-qemu": 64055}.get)


def rule(text: str) -> Rule:
    return parse_target(text, WORDS)


def exclusion(text: str) -> Exclusion:
    parsed = parse_rule(text, WORDS)
    assert isinstance(parsed, Exclusion)
    return parsed


def fault(text: str) -> RuleError:
    with pytest.raises(RuleError) as caught:
        parse_rule(text, WORDS)
    return caught.value


def exact(text: str) -> bytes | None:
    subject = rule(text).subject
    assert isinstance(subject, Glob)
    return subject.exact


def test_a_rule_with_every_condition() -> None:
    parsed = rule(
        "exec:*qemu,exe=/usr/*,argv=*guest=tiny*,comm!=sh,uid=libvirt-qemu,pid=7,parent=libvirtd,"
        "parent!=1,lineage=systemd,tree=cmd,tree!=12,n=2,max=3"
    )
    assert (parsed.kind, parsed.subject) == (RuleKind.EXEC, Glob.parse("*qemu"))
    assert parsed.conditions == (
        Condition(Field.EXE, Glob.parse("/usr/*")),
        Condition(Field.ARGV, Glob.parse("*guest=tiny*")),
        Condition(Field.COMM, Glob.parse("sh"), negated=True),
        Condition(Field.UID, 64055),
        Condition(Field.PID, 7),
        Condition(Field.PARENT, Glob.parse("libvirtd")),
        Condition(Field.PARENT, 1, negated=True),
        Condition(Field.LINEAGE, Glob.parse("systemd")),
        Condition(Field.TREE, TreeRoot.COMMAND),
        Condition(Field.TREE, 12, negated=True),
    )
    assert (parsed.first, parsed.limit) == (2, 3)


@pytest.mark.parametrize(
    ("text", "first", "limit"),
    [("exec:a", 1, None), ("exec:a,n=3", 3, 1), ("exec:a,max=3", 1, 3), ("exec:a,n=3,max=4", 3, 4)],
)
def test_which_hits_are_taken(text: str, first: int, limit: int | None) -> None:
    assert (rule(text).first, rule(text).limit) == (first, limit)


@pytest.mark.parametrize(
    ("text", "file", "name"),
    [
        ("call:qemuProcessStart", None, "qemuProcessStart"),
        ("call:libvirt*.so.0!virExec", "libvirt*.so.0", "virExec"),
        ("call:f(int, char),uid=0", None, "f(int, char)"),
        ("call:std::map<int, char>::at,n=1", None, "std::map<int, char>::at"),
        ("call:X::operator<(X const&, int),n=1", None, "X::operator<(X const&, int)"),
        ("call:X::operator->,n=1", None, "X::operator->"),
        ("call:operator,,n=1", None, "operator,"),
        ("call:X::operator!", None, "X::operator!"),
        ("call:X::operator!=(X const&)", None, "X::operator!=(X const&)"),
        ("call:a.out!X::operator!", "a.out", "X::operator!"),
        ("call:X::id[abi:cxx11]() const", None, "X::id[abi:cxx11]() const"),
        ("call:a!f<!is_array<T>::value>()", "a", "f<!is_array<T>::value>()"),
        ("call:f<!is_array<T>::value>()", None, "f<!is_array<T>::value>()"),
        ("call:X::operator[](int)", None, "X::operator[](int)"),
    ],
)
def test_functions(text: str, file: str | None, name: str) -> None:
    expected = Function(Glob.parse(name, classes=False), Glob.parse(file) if file else None)
    assert rule(text).subject == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("at:main.c:120", SourceLine(b"main.c", 120)),
        (r"at:a\,b.c:7,uid=0", SourceLine(b"a,b.c", 7)),
        ("at:C:/x.c:3", SourceLine(b"C:/x.c", 3)),
    ],
)
def test_source_lines(text: str, line: SourceLine) -> None:
    assert rule(text).subject == line


@pytest.mark.parametrize(("name", "number"), [("TERM", 15), ("sigterm", 15), ("15", 15), ("RTMIN+3", 37)])
def test_signals(name: str, number: int) -> None:
    assert rule(f"signal:{name}").subject == Signals(name, frozenset({number}))


def test_signal_patterns_and_aliases() -> None:
    realtime = rule("signal:RTM*").subject
    assert isinstance(realtime, Signals)
    assert realtime.numbers == frozenset(range(34, 65))
    assert rule("signal:CLD").subject == Signals("CLD", frozenset({17}))


def test_syscalls_and_hops() -> None:
    assert rule("syscall:open*").subject == Syscalls(Glob.parse("open*"))
    assert rule("syscall:syscall_999").subject == Syscalls(Glob.parse("syscall_999"))
    assert rule("hop:/a#b/start.clew#12,n=1").subject == RecordedHop(b"/a#b/start.clew", 12)


def test_bytes_that_are_no_text_survive() -> None:
    assert exact("exec:caf\udce9") == exact(r"exec:caf\xe9") == b"caf\xe9"
    assert exact("exec:café") == "café".encode()


def test_escaped_commas_and_blanks() -> None:
    parsed = rule(r"  exec:a\,b, argv=*x\,y*,  argv=[\,]")
    assert parsed.subject == Glob.parse(r"a\,b")
    assert [condition.value for condition in parsed.conditions] == [
        Glob.parse(r"*x\,y*"),
        Glob.parse(r"[\,]"),
    ]


def test_exclusions() -> None:
    assert exclusion("!exec:sh") == Exclusion("!exec:sh", "process", Glob.parse("sh"))
    assert exclusion("not:exec:sh").subject == Glob.parse("sh")
    assert exclusion("!tree:sshd,uid=0").conditions == (Condition(Field.UID, 0),)
    assert (exclusion("!tree:12").scope, exclusion("!tree:12").subject) == ("tree", 12)
    assert exclusion("not:tree:cmd").subject is TreeRoot.COMMAND
    assert exclusion("!tree:[1]2").subject == Glob.parse("[1]2")


def test_rules_and_exclusions_are_sorted_out() -> None:
    found = parse_rules(["!exec:sh", "exec:*", "fork:a"], WORDS)
    assert [one.text for one in found.rules] == ["exec:*", "fork:a"]
    assert [one.text for one in found.exclusions] == ["!exec:sh"]
    assert (found + found).rules == found.rules * 2


def test_a_target_is_no_exclusion() -> None:
    with pytest.raises(RuleError, match="names nothing to reach"):
        parse_target("!exec:sh")


FAULTS = [
    # text, position of the caret, a part of what is said
    ("exce:*qemu", 0, "Did you mean exec:*qemu?"),
    ("exec qemu", 0, "Did you mean exec:qemu?"),
    ("exec=qemu", 0, "Did you mean exec:qemu?"),
    ("EXEC:qemu", 0, "Did you mean exec:qemu?"),
    ("execve:qemu", 0, "Did you mean exec:qemu?"),
    ("break:main", 0, "Did you mean call:main?"),
    ("uprobe:main", 0, "Did you mean call:main?"),
    ("clone:a", 0, "Did you mean fork:a?"),
    ("exec", 0, "Write exec:GLOB."),
    ("call", 0, "Write call:[FILE!]FUNCTION."),
    ("qemu-system-x86_64", 0, "Did you mean exec:qemu-system-x86_64?"),
    ("blurb:a", 0, "Kinds are exec, fork,"),
    ("", 0, "The rule is empty."),
    ("exec:", 5, "names no program"),
    ("exec:a\0b", 6, "NUL"),
    ("exec:ab\\", 7, "ends in a backslash"),
    ("exec:x[z-a]", 6, "runs backwards"),
    ("exec:[[:digit:]]", 5, "Write [0-9]."),
    ("exec:[é]", 6, "holds bytes"),
    ("call:", 5, "names no function"),
    ("call:libc.so.6!", 15, "names no function"),
    ("call:libc.so.6:malloc", 14, "'libc.so.6!malloc'"),
    ("call:main.c:120", 11, "at:main.c:120"),
    ("call:f(int,uid=0", 6, "never closed"),
    ("at:main.c", 9, "at:FILE.c:LINE"),
    ("at:120", 6, "at:FILE.c:LINE"),
    ("at:main.c:0", 10, "counted from 1"),
    ("at:main.c:12x", 10, "'12x' is not a line number"),
    ("syscall:", 8, "names no system call"),
    ("syscall:opnat", 8, "Did you mean syscall:openat"),
    ("syscall:__x64_sys_openat", 8, "Did you mean syscall:openat"),
    ("syscall:zz*", 8, "no system call 'zz*'"),
    ("signal:TREM", 7, "Did you mean signal:SIGTERM"),
    ("signal:65", 7, "no signal '65'"),
    ("signal:", 7, "names no signal"),
    ("hop:start.clew", 14, "hop:TRACE#N"),
    ("hop:start.clew#0", 15, "counted from 1"),
    ("exec:a,", 7, "nothing after the comma"),
    ("exec:a,argv=*x,debug=on", 15, "'debug=on' is not a condition"),
    ("exec:a,argv=*tiny,debug=on", 18, "Write \\, for a comma"),
    ("exec:a, user=root", 8, "Did you mean uid=root?"),
    ("exec:a,ppid=1", 7, "Did you mean parent=1?"),
    ("exec:a,arg:b", 7, "Did you mean argv=b?"),
    ("exec:a,argv", 7, "Did you mean argv=VALUE?"),
    ("exec:a,argv=", 12, "wants a value"),
    ("exec:a,argv==b", 12, "Write argv=b."),
    ("exec:a,uid=bob", 11, "no user 'bob'"),
    ("exec:a,uid=4294967295", 11, "not a user id"),
    ("exec:a,pid=0", 11, "not a process id"),
    ("exec:a,parent=99999999999999999999999", 14, "not a process id"),
    ("exec:a,tree=sh", 12, "Write lineage=sh"),
    ("exec:a,n=0", 9, "not a number of hits"),
    ("exec:a,max=-1", 11, "not a number of hits"),
    ("exec:a,n!=2", 8, "Write n=NUMBER."),
    ("exec:a,uid=1,uid=2", 13, "given twice"),
    ("!!exec:sh", 1, "!tree:GLOB"),
    ("!call:f", 1, "Write !exec:f, or !tree:f"),
    ("not:fork", 4, "Write !exec:GLOB"),
    ("!exec:sh,n=2", 9, "counts no hits"),
    ("!exec:", 6, "pattern is missing"),
]


@pytest.mark.parametrize(("text", "position", "said"), FAULTS, ids=[text for text, _, _ in FAULTS])
def test_faults(text: str, position: int, said: str) -> None:
    error = fault(text)
    assert (error.rule, error.position) == (text, position)
    assert said in str(error)


def test_no_vocabulary_takes_any_name_and_no_user() -> None:
    assert parse_target("syscall:brand_new").kind is RuleKind.SYSCALL
    with pytest.raises(RuleError, match="no user 'root'"):
        parse_rule("exec:a,uid=root")


def test_the_caret_stands_under_the_fault() -> None:
    assert caret(fault("exec:a,uid=bob")) == "    exec:a,uid=bob\n" + " " * 15 + "^"


def test_the_caret_counts_columns_as_a_terminal_does() -> None:
    rule_line, caret_line = caret(fault("exec:日本\x1b[2J\u202e,n=0")).split("\n")
    assert rule_line == "    exec:日本\\x1b[2J\\u{202e},n=0"
    # Two columns for each of the two wide characters.
    assert len(caret_line) - 1 == rule_line.index("0", rule_line.index("n=")) + 2


def test_every_prefix_parses_or_fails_as_a_rule_error() -> None:
    whole = r"!exec:a[b-\,]*?\x41,argv!=*\,x,uid=root,parent=12,tree=cmd,lineage=[!x]"
    call = "call:lib!f<int, (char)>(x),n=1,max=2"
    for text in (whole, call):
        for end in range(len(text) + 1):
            try:
                parse_rule(text[:end], WORDS)
            except RuleError as error:
                assert 0 <= error.position <= end
                assert caret(error)
