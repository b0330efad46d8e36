"""The other nodes, over HTTP."""
