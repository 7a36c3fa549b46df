"""Backtraces from saved stacks: unwinding them and naming the places."""
