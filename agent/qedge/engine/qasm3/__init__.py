"""The useful part of OpenQASM 3 (arXiv:2104.14722) to the flat circuit form, in bounded time and memory."""
