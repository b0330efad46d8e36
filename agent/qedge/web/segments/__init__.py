"""Segments of attached devices, over HTTP."""
