"""Segments of attached devices: group keys, consumers that policy lets in, and commands back to devices."""
