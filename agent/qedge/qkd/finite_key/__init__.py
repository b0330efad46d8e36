"""How many secret bits a block holds: composable finite-size bounds for decoy-state BB84, from exact counts."""
