"""The `qedge` command line: a folder per capability, in it a module per command."""
