"""A Sparkplug B 3.0 edge node: what this node reads of itself and of its drivers, as SCADA systems expect it."""
