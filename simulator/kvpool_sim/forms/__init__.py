"""Bodies of the inference APIs: the fields that the simulator reads, by vLLM's names, types and leniency.

Pydantic, as vLLM uses it, so that the same values pass ("3" where an integer belongs) and the same words refuse others.
Unknown fields pass.
"""
