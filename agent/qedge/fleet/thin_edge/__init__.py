"""The node as a service of thin-edge.io: registration, health, measurements, events, alarms, twin and commands."""
