"""The way upstream: readings wait on the disk and go out in order when the way is there."""
