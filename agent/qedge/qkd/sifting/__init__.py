"""Sifting: what goes over the wire, near its entropy, and what both ends keep of it."""
