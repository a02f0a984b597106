"""The command line, `pcam`, and what only it needs."""

from .commands import main

__all__ = ["main"]
