"""Keys and the applications that get them, over HTTP, for the operator's programs."""
