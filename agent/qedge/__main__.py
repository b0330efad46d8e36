"""`python -m qedge` is the `qedge` command."""

from qedge.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
