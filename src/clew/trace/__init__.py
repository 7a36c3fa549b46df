"""Recordings on disk: written by engines, read by everything else."""
