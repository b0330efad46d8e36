"""Typed client of a node, for the command line and other programs; runs on any operating system."""
