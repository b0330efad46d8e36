"""Sessions with devices: handshakes, resumption, the book of open sessions, CONNECT."""
