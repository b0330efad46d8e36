"""The protocol in one place: the topic map and every struct that crosses a process or a node."""
