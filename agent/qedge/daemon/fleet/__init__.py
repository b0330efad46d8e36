"""What a fleet's operators are offered by this daemon, put together."""
