"""Holds the map against what engines say they found: how true it is, and whether a worker's can be believed."""
