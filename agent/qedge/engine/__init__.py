"""The engine: from program text to counts, with admission before anything is allocated."""
