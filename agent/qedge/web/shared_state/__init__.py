"""What the nodes share, over HTTP."""
