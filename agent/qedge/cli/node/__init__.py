"""Commands about this node: running it, seeing what it does, emptying it."""
