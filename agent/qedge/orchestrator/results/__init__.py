"""Whether results of other nodes can be believed: what they must satisfy, second runs, and what follows for a node."""
