"""Which rule takes an event, decided as for the bpf engine the kernel does (``probes/hold_take.bpf.h``)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from clew.engine.ptrace.who import Spared
from clew.engine.stops import MAX_RULES, too_many
from clew.model.rules.facts import Facts
from clew.model.rules.glob import Glob
from clew.model.rules.kernel import KernelPlan
from clew.model.rules.match import excludes, meets
from clew.model.rules.rule import Exclusion, RuleKind
from clew.model.rules.select import is_taken


@dataclass(slots=True)
class _Armed:
    plan: KernelPlan
    under_debugger: bool
    hits: int = 0

    @property
    def asks(self) -> bool:
        """Whether it wants to know anything of who hit it."""
        return bool(self.plan.rule.conditions) or isinstance(self.plan.rule.subject, Glob)

    @property
    def spent(self) -> bool:
        """Whether ``n`` and ``max`` leave nothing more for it to take."""
        return self.plan.last is not None and self.hits >= self.plan.last


class Choice:
    """Rules in force."""

    def __init__(self) -> None:
        self._rules: dict[int, _Armed] = {}
        self._exclusions: list[Exclusion] = []
        self._spent: list[int] = []
        self._number = 0

    def arm(self, plan: KernelPlan, under_debugger: bool) -> int:
        """Put a rule in force; its number.  HoldError if there are too many."""
        if self._number == MAX_RULES:
            raise too_many("rules")
        self._rules[self._number] = _Armed(plan, under_debugger)
        self._number += 1
        return self._number - 1

    def disarm(self, number: int) -> None:
        """Take a rule out of force."""
        self._rules.pop(number, None)

    def take_spent(self) -> list[int]:
        """Rules that were used up since the last call."""
        spent, self._spent = self._spent, []
        return spent

    def wants_calls(self) -> bool:
        """Whether some rule is about system calls."""
        return any(one.plan.syscalls and not one.spent for one in self._rules.values())

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

    def take(
        self, among: Collection[int], facts: Callable[[], Facts], spared: Callable[[], Spared]
    ) -> int | None:
        """The rule, of those given, that takes this event.  A hit is counted for every one that matches.

        What the rule stops at was seen to by who asks, except for the program of exec, fork and exit rules.
        Facts are read from /proc, so they are asked for only where a rule needs them.
        """
        known = [(at, self._rules[at]) for at in among if at in self._rules and not self._rules[at].spent]
        matched = {at: one for at, one in known if not one.asks or meets(one.plan.rule, facts())}
        verdict = spared() if matched else Spared.ALWAYS
        if verdict is Spared.UNDER_DEBUGGER:
            matched = {at: one for at, one in matched.items() if one.under_debugger}
        if verdict is Spared.ALWAYS or not matched:
            return None
        if any(excludes(one, facts()) for one in self._exclusions):
            return None
        taken: int | None = None
        for at, one in sorted(matched.items()):
            one.hits += 1
            if taken is None and is_taken(one.plan.rule, one.hits):
                taken = at
            if one.spent:
                self._spent.append(at)
        return taken
