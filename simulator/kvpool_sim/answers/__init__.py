"""Answers in the shapes that vLLM 0.32 gives them, byte for byte where a client could tell."""
