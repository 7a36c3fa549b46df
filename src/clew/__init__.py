"""clew: follow one request through every process, and hold any of them in your debugger."""

__version__ = "0.1.0"
