"""What the OpenQASM front ends share: tokens, registers, the gate library, the fast path, and what a parse returns."""
