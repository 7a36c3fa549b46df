"""Where events come from and stops are made."""

ENGINES = ("auto", "bpf", "ptrace")
"""What ``--engine`` takes; ``clew.engine.choose`` makes one of it."""
