"""HTTP for this box: a unix socket for operators and programs, a loopback listener for health, metrics and the page."""
