"""The node asks for its next certificate by itself, before the present one ends."""
