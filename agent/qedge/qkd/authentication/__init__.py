"""Authentication of the classical channel by one-time padded universal hashes, and the key that it costs."""
