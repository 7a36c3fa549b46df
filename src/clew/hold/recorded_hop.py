"""What a rule about a recorded hop means on the next run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from clew.errors import RuleError
from clew.model.rules.hop import rule_for_hop
from clew.model.rules.rule import RecordedHop, Rule, RuleSet


def with_hops_meant(rules: RuleSet) -> RuleSet:
    """The rules, with those about hops turned into what they mean.  Raises as ``rule_of_its_hop``."""
    return replace(rules, rules=tuple(map(rule_of_its_hop, rules.rules)))


def rule_of_its_hop(rule: Rule) -> Rule:
    """A hop rule turned into the rule for the point that its hop left; any other as it is.

    Raises RuleError if the recording has no such hop, TraceError if it cannot be read.
    """
    if not isinstance(rule.subject, RecordedHop):
        return rule
    # Following a recording takes numpy and seconds: only who asks for it pays.
    from clew.flow.follow import follow
    from clew.trace.reader import Trace

    hops = follow(Trace(Path(os.fsdecode(rule.subject.trace))), whole=True).hops
    number = rule.subject.number
    hop = next((hop for hop in hops if hop.n == number), None)
    if hop is None:
        numbers_there = f"It has {len(hops)}." if hops else "It has none."
        raise RuleError(rule.text, rule.text.rindex("#") + 1, f"There is no hop {number}. {numbers_there}")
    return rule_for_hop(rule, hop)
