"""`python -m benchmarks [NAME…]`: run benchmarks by name, all without a name; exit code 1 if a bound is missed."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

from benchmarks.report import Figure
from qedge.base.log import LogConfig, configure


def names() -> list[str]:
    """Return all benchmarks: the modules of this folder that have a `run`."""
    found = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    return sorted(name.removeprefix("bench_").replace("_", "-") for name in found if name.startswith("bench_"))


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(names())}")
    wanted = parser.parse_args().names or names()
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(names())}")
    configure(LogConfig(level="error"))  # what runs inside this process must not write between the figures
    good = True
    for name in wanted:
        figures: list[Figure] = importlib.import_module(f"benchmarks.bench_{name.replace('-', '_')}").run()
        for figure in figures:
            print(figure.line(), flush=True)
            good = good and figure.ok
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
