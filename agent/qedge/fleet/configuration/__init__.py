"""Configuration that the fleet gives this node: staged, tried, kept or undone."""
