"""The gateway for attached devices, put together."""
