"""Where events come from and stops are made."""
