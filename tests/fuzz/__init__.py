"""Runs that look for inputs which break a parser, led by the branches that they reach. Not part of the test command."""
