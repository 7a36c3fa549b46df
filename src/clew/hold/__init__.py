"""Stopping tasks by rules and keeping them until released: sessions, leases, control socket, guardian."""
