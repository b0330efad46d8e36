"""The way to the cloud: a second broker, and a spool for the time without it."""
