"""The demo: its scenes, and the nodes and devices that play in it."""
