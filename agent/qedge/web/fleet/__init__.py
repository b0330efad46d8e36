"""The node's place in a fleet, over HTTP."""
