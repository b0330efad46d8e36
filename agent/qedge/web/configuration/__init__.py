"""The configuration that the fleet gives, over HTTP."""
