"""The live view of a node in the terminal."""
