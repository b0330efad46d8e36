"""Commands about QKD links, built and planned."""
