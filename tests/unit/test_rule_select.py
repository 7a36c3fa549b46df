"""Rules over a row of events: hits counted, exclusions, what a recording comes to."""

from __future__ import annotations

import pytest

from clew.model.rules import Facts, RuleKind, Selection, parse_rules, replay


def execs(*programs: str) -> list[Facts]:
    return [Facts(RuleKind.EXEC, pid, f"/bin/{name}".encode()) for pid, name in enumerate(programs, 1)]


@pytest.mark.parametrize(
    ("rule", "taken"),
    [
        ("exec:a", [1, 2, 4, 6]),
        ("exec:a,n=2", [2]),
        ("exec:a,max=2", [1, 2]),
        ("exec:a,n=2,max=2", [2, 4]),
        ("exec:a,n=9", []),
        ("exec:a,n=4,max=9", [6]),
    ],
)
def test_which_hits_are_taken(rule: str, taken: list[int]) -> None:
    rules = parse_rules([rule])
    events = execs("a", "a", "b", "a", "b", "a")
    selection = Selection(rules)
    assert [facts.pid for facts in events if selection.take(facts)] == taken
    (verdict,) = replay(rules, events)
    assert [facts.pid for facts in verdict.taken] == taken
    assert (verdict.hits, verdict.excluded) == (4, 0)


def test_each_rule_counts_for_itself_and_the_first_takes() -> None:
    rules = parse_rules(["exec:a,n=2", "exec:*"])
    selection = Selection(rules)
    taken = [selection.take(facts) for facts in execs("a", "a", "b")]
    assert [rule.text for rule in taken if rule] == ["exec:*", "exec:a,n=2", "exec:*"]


def test_an_excluded_event_is_no_hit() -> None:
    rules = parse_rules(["exec:*,n=2", "!exec:a"])
    events = execs("a", "b", "a", "c")
    selection = Selection(rules)
    assert [facts.pid for facts in events if selection.take(facts)] == [4]
    (verdict,) = replay(rules, iter(events))
    assert (verdict.hits, verdict.excluded) == (2, 2)
    assert verdict.taken == (events[3],)
