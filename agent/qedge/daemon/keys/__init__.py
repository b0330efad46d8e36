"""The key store of this daemon and what hands its keys on, put together."""
