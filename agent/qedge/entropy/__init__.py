"""Random numbers: raw samples tested, conditioned, and mixed with the operating system's so that no source can harm."""
