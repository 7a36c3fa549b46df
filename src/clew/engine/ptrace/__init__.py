"""The ``ptrace`` engine: the command's tree and one's own processes, without root.

The loop is ``clew-tracer``, a small C program (``tracer/``); this package starts it, empties the shared
memory it writes to, and turns what it says into results.  docs/internals/ptrace-engine.md tells how and why.
"""
