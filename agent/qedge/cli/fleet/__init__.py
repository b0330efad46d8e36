"""Commands of a fleet: founding and joining it, its authority, its operators, and their orders."""
