"""The node itself, over HTTP: its status, what it gives out, whether it takes jobs."""
