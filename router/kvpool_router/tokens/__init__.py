"""Prompts to token ids, as the engines make them: `protocol` behind one choice of `hf_impl` and `engine_impl`."""
