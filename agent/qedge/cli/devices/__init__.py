"""Commands about attached devices and their segments."""
