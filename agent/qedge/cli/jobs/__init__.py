"""Commands about work for QPUs: circuits, tasks, decode streams, and what came out."""
