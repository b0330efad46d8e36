"""The key store: finished blocks in, keys out, each at most once at each end, whatever breaks in between."""
