"""The policy of the node, over HTTP."""
