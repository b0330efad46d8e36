"""The node as a device of Home Assistant, by MQTT discovery: the node and its drivers, not every attached device."""
