"""Flows written by hand, and what the views show of them."""
