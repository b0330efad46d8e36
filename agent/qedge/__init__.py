"""qedge: the daemon of a quantum edge box."""

__version__ = "0.1.0"
