"""What a client asks for: which paths are served, what a body says, and how a refusal reads."""
