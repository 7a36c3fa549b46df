"""Which rule takes an event, decided as for the bpf engine the kernel does (``probes/hold_take.bpf.h``)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from clew.errors import HoldError
from clew.model.rules.facts import Facts
from clew.model.rules.kernel import KernelPlan
from clew.model.rules.match import excludes, meets
from clew.model.rules.rule import Exclusion, RuleKind
from clew.model.rules.select import is_taken

MAX_RULES = 64


@dataclass(slots=True)
class _Armed:
    plan: KernelPlan
    under_debugger: bool
    hits: int = 0


class Choice:
    """Rules in force.  ``spares`` says of an event's facts: 0 not spared, 1 under a debugger, 2 always."""

    def __init__(self, spares: Callable[[Facts], int]) -> None:
        self._spares = spares
        self._rules: dict[int, _Armed] = {}
        self._exclusions: list[Exclusion] = []
        self._number = 0

    def arm(self, plan: KernelPlan, under_debugger: bool) -> int:
        """Put a rule in force; its number.  HoldError if there are too many."""
        if self._number == MAX_RULES:
            raise HoldError(f"More than {MAX_RULES} rules were given.", "Put a glob in place of several.")
        self._rules[self._number] = _Armed(plan, under_debugger)
        self._number += 1
        return self._number - 1

    def disarm(self, number: int) -> None:
        """Take a rule out of force."""
        self._rules.pop(number, None)

    def exclude(self, exclusion: Exclusion) -> None:
        """Hold nobody whom ``exclusion`` means."""
        self._exclusions.append(exclusion)

    def of_kind(self, kind: RuleKind) -> list[int]:
        """Numbers of the rules of a kind."""
        return [number for number, armed in self._rules.items() if armed.plan.rule.kind is kind]

    def for_syscall(self, number: int) -> list[int]:
        """Rules for a system call, by its number."""
        return [at for at, armed in self._rules.items() if number in armed.plan.syscalls]

    def for_signal(self, number: int) -> list[int]:
        """Rules for a signal, by its number."""
        return [at for at, armed in self._rules.items() if number in armed.plan.signals]

    def take(self, facts: Facts, among: Collection[int]) -> int | None:
        """The rule, of those given, that takes this event.  A hit is counted for every one that matches.

        What the rule stops at was seen to by who asks, except for the program of exec, fork and exit rules.
        """
        matched = {at: one for at in among if (one := self._rules.get(at)) and meets(one.plan.rule, facts)}
        spared = self._spares(facts) if matched else 2
        if spared == 1:
            matched = {at: one for at, one in matched.items() if one.under_debugger}
        if spared == 2 or not matched or any(excludes(one, facts) for one in self._exclusions):
            return None
        taken: int | None = None
        for at, one in sorted(matched.items()):
            one.hits += 1
            if taken is None and is_taken(one.plan.rule, one.hits):
                taken = at
        return taken
