"""Commands about the other nodes, and what all of them share."""
