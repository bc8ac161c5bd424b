"""Faults done to a real server in a process of its own, and what became of the requests around."""
