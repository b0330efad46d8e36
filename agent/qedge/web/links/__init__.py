"""QKD links, over HTTP."""
