"""Whole outputs, compared with files that a person has looked at."""
