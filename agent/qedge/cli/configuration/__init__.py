"""Commands about the configuration of this box: its faults, what is set, what the fleet gives."""
