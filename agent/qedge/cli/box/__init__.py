"""Commands about the box below the node: installing, updating, finding what is wrong."""
