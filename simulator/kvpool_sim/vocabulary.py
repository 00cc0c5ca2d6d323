"""Text to ids and back, by a small tokenizer that ships with the simulator, and what the simulated model says."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from kvpool_sim.core.request import EngineRequest

FOLDER = Path(__file__).parent / "tokenizer"
_WORD_START = "Ġ"
_SHORTEST_WORD = 4


class Vocabulary:
    """The tokenizer, its chat template, and the words that the model answers with.

    An answer is a fixed sequence of whole words for each prompt. A whole word with its space is one token wherever it
    stands, so an answer that a client sends back in the next turn becomes the same tokens again, and is a cache hit as
    it would be with a real model.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "tokenizer_config.json").read_text())
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        self._template = environment.from_string(config["chat_template"])
        self._words = sorted(
            number
            for text, number in self._tokenizer.get_vocab().items()
            if text.startswith(_WORD_START) and text[1:].isalpha() and text[1:].isascii() and len(text) > _SHORTEST_WORD
        )
        self._texts = {number: " " + (self._tokenizer.id_to_token(number) or "")[1:] for number in self._words}

    def encode(self, text: str) -> array[int]:
        return array("I", self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def chat(self, messages: Sequence[dict[str, object]], tools: object, arguments: dict[str, object]) -> str:
        """The text of a conversation."""
        variables = {"add_generation_prompt": True, **arguments, "messages": messages, "tools": tools}
        return self._template.render(variables)

    def next_token(self, request: EngineRequest) -> int:
        """The model."""
        return self._words[(request.seed + 7919 * request.output_tokens) % len(self._words)]

    def text(self, token: int) -> str:
        """What one token of an answer looks like."""
        return self._texts[token]
