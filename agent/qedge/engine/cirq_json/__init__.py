"""Circuits as cirq writes them in JSON, read without cirq: nothing in a text can make a program of ours run."""
