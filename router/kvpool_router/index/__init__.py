"""Which worker holds which prefix: from events, from what was just sent, and from what was sent a while ago."""
