"""The `qedge` command line: one module per command."""
