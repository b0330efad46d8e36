"""OpenQASM 2 (arXiv:1707.03429) to the flat circuit form, in bounded time and memory for every input."""
