"""Jobs, over HTTP."""
