"""The routers of one pool tell each other what they send where, and a new one takes the map of one that has it."""
