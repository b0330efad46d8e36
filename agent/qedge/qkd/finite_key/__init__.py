"""How many secret bits a finished block holds: composable finite-size bounds for decoy-state BB84, from exact counts."""
