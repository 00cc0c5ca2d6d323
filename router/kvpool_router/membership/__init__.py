"""Who is in the pool."""
