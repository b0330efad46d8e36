"""Who this node is, and its place in a fleet."""
