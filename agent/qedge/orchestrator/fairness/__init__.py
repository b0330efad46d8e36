"""How well a node is, and what it turns away when it is not."""
