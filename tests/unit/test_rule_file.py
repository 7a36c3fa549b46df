"""Rule files: TOML tables are the same rules as lines."""

from __future__ import annotations

import pytest

from clew.errors import RuleError, UsageError
from clew.model.rules import Vocabulary, parse_rule, parse_rule_file

WORDS = Vocabulary(uid_of={"libvirt-qemu": 64055}.get)

FILE = r"""
[[rule]]
exec = "*qemu-system-x86_64"
argv = ["*guest=tiny,*", '*a\,b\*']
uid = "libvirt-qemu"
n = 2
not = { parent = "sh", argv = ["x", "y"] }

[[exclude]]
tree = "sshd"
uid = 0

[[rule]]
call = "ns::f(int, char)"
max = 3

[[rule]]
rule = "signal:TERM,exe=virtqemud"

[[exclude]]
exec = "gdb"
tree = 12

[[exclude]]
rule = "tree:cmd"
"""


def test_tables_are_lines() -> None:
    found = parse_rule_file(FILE, WORDS)
    lines = [
        r"exec:*qemu-system-x86_64,argv=*guest=tiny\,*,argv=*a\,b\*,uid=libvirt-qemu,n=2,parent!=sh,argv!=x,argv!=y",
        r"call:ns::f(int\, char),max=3",
        "signal:TERM,exe=virtqemud",
    ]
    assert found.rules == tuple(parse_rule(line, WORDS) for line in lines)
    exclusions = ["!tree:sshd,uid=0", "!exec:gdb,tree=12", "!tree:cmd"]
    assert found.exclusions == tuple(parse_rule(line, WORDS) for line in exclusions)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[[rules]]\nexec = 'a'", r"Did you mean \[\[rule\]\]"),
        ("[rule]\nexec = 'a'", "in two brackets"),
        ("rule = [1]", "in two brackets"),
        ("[[rule]]\nargv = 'a'", "has no kind"),
        ("[[exclude]]\ncall = 'a'", "has no kind"),
        ("[[rule]]\nexec = 'a'\narg = 'b'", "Did you mean argv"),
        ("[[rule]]\nexec = 'a'\nfork = 'b'", "unknown key 'fork'"),
        ("[[rule]]\nexec = 1.5", "neither text nor a number"),
        ("[[rule]]\nexec = true", "neither text nor a number"),
        ("[[rule]]\nexec = 'a'\nnot = 'b'", "is a table"),
        ("[[rule]]\nrule = 'exec:a'\nn = 2", "more than its rule"),
        ("[[rule]]\nrule = 7", "more than its rule"),
    ],
)
def test_tables_that_are_no_rules(toml: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_rule_file(toml)


def test_a_fault_in_a_rule_is_shown_in_its_line() -> None:
    with pytest.raises(RuleError) as caught:
        parse_rule_file("[[rule]]\nexec = 'a'\nuid = 'bob'")
    assert (caught.value.rule, caught.value.position) == ("exec:a,uid=bob", 11)


@pytest.mark.parametrize(
    ("toml", "line", "position"), [("[[rule]]\nexec = 3x", "exec = 3x", 8), ("a = ", "a = ", 4)]
)
def test_a_fault_in_toml_is_shown_in_its_line(toml: str, line: str, position: int) -> None:
    with pytest.raises(RuleError, match="is not TOML") as caught:
        parse_rule_file(toml)
    assert (caught.value.rule, caught.value.position) == (line, position)


def test_an_empty_file_has_no_rules() -> None:
    assert parse_rule_file("").rules == ()
