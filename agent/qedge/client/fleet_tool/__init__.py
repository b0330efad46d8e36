"""A tool for small fleets and scripts: see who is there, select, command, roll out in waves, keep a trail."""
