"""Rules in force together over a row of events: exclusions, the n-th hit, and no more than max."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from clew.model.rules.facts import Facts
from clew.model.rules.match import excludes, matches
from clew.model.rules.rule import Rule, RuleSet


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule comes to over a recording.

    ``hits`` events met its conditions, ``taken`` are those among them that ``n`` and ``max`` leave;
    ``excluded`` more would have been hits but for an exclusion.
    """

    rule: Rule
    hits: int
    excluded: int
    taken: tuple[Facts, ...]


class Selection:
    """Decides event by event, in the order they happen; counts the hits of each rule for itself."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._hits = [0] * len(rules.rules)

    def take(self, facts: Facts) -> Rule | None:
        """The first rule that takes this event, None if it goes by.  Counts a hit for all that match."""
        if any(excludes(exclusion, facts) for exclusion in self._rules.exclusions):
            return None
        taken: Rule | None = None
        for index, rule in enumerate(self._rules.rules):
            if matches(rule, facts):
                self._hits[index] += 1
                if taken is None and is_taken(rule, self._hits[index]):
                    taken = rule
        return taken


def is_taken(rule: Rule, hit: int) -> bool:
    """Whether hit number ``hit`` (from 1) is one that ``n`` and ``max`` let through."""
    return hit >= rule.first and (rule.limit is None or hit < rule.first + rule.limit)


def replay(rules: RuleSet, events: Iterable[Facts]) -> tuple[Verdict, ...]:
    """What each rule would have taken of ``events``, given in the order they happened."""
    tallies = [_Tally(rule) for rule in rules.rules]
    for facts in events:
        # Exclusions are asked only of what a rule wants: most events concern none.
        hit = [tally for tally in tallies if matches(tally.rule, facts)]
        barred = bool(hit) and any(excludes(exclusion, facts) for exclusion in rules.exclusions)
        for tally in hit:
            tally.count(facts, barred)
    return tuple(Verdict(t.rule, t.hits, t.excluded, tuple(t.taken)) for t in tallies)


class _Tally:
    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.hits = 0
        self.excluded = 0
        self.taken: list[Facts] = []

    def count(self, facts: Facts, barred: bool) -> None:
        if barred:
            self.excluded += 1
            return
        self.hits += 1
        if is_taken(self.rule, self.hits):
            self.taken.append(facts)
