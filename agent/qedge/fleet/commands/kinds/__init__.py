"""The kinds of commands that every node carries out, one executor each."""
