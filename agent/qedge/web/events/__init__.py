"""What happens at the node, as a stream over HTTP."""
