"""Algorithms, identities, signed envelopes, handshakes and the keys of sessions."""
