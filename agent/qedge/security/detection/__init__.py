"""Finding threats in what the enforcement point counts, window by window."""
