"""Thin wrappers of what the kernel offers: /proc, ptrace, signals, pidfds, namespaces, call numbers."""
