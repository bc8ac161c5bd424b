"""Attacks: a real server, a hostile caller, and an honest one who must not notice."""
