"""The page in a browser: its files, and the sessions of those who look at it."""
