"""A vLLM engine without a GPU: vLLM's HTTP and event wire over a modelled engine."""

from pathlib import Path


def tokenizer_path() -> Path:
    """The folder with the simulated model's tokenizer.json and tokenizer_config.json."""
    return Path(__file__).parent / "tokenizer"
