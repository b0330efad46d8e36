"""MQTT: one persistent connection, delivery that is not acknowledged before it is safe, and a private child broker."""
