"""Entry point of the `qedge` command."""

from __future__ import annotations


def main() -> int:
    """Run the command line and return its exit code."""
    return 0
