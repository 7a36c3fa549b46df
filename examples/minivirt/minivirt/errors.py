"""The one error a user is told about."""

from __future__ import annotations


class Refused(Exception):
    """A request that cannot be done. Its text is one line for the user, in the shell or from the daemon."""
