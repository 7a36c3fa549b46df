"""Whose work was it: how often following is right, beside the rules of others on the same recording."""
