"""Jobs that are cut into parts, which run on many nodes at once, and are put together again."""
