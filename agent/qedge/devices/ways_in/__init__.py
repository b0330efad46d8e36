"""The ways by which devices reach a node: MQTT clients at its own listener, and through the broker."""
