"""Many nodes as one: where jobs go, who runs them, and what happens when a node fails."""
