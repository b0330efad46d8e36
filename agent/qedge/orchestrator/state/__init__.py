"""Shared state: a small map that every node of a site, or of the fleet, holds and may read at once."""
