"""Commands of fleet operators, over HTTP."""
