"""The composition root: configuration in, a list of services out; and the life of the process around them."""
