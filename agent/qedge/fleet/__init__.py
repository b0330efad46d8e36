"""Management from afar: signed commands, staged configuration, updates, telemetry, and adapters to fleet tools."""
