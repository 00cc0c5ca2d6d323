"""Ids as vLLM makes them."""

import uuid


def random_id() -> str:
    """The lower half of a random UUID, in 16 hexadecimal digits: unique among the engines of a pool, too."""
    return f"{uuid.uuid4().int & (2**64 - 1):016x}"
