"""What engines say about their caches: subscribe, replay, decode, apply."""
