"""The orchestrator: many nodes as one."""
