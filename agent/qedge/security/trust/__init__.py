"""How far a device is trusted: evidence, its decay, the score, and quarantine."""
