"""The node among its peers: its birth, answers to pings, and the health of the host it runs on."""
