"""Text to ids and back, by a small tokenizer that ships with the simulator, and what the simulated model says."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from kvpool_sim.conversation import Talk
from kvpool_sim.core.request import EngineRequest

FOLDER = Path(__file__).parent / "tokenizer"
_WORD_START = "Ġ"
_SHORTEST_WORD = 4
_STRIDE = 7919
_CONTINUED = "CONTINUED-HERE "
"""Put behind a message to be continued, so that its end can be found in the text; with a space, as in transformers."""


class Untemplatable(Exception):
    """The chat template does not take the messages; says why."""


class Vocabulary:
    """The tokenizer, its chat template, and the words that the model answers with.

    An answer is a fixed sequence of whole words for each prompt. A whole word with its space is one token wherever it
    stands, so an answer that a client sends back in the next turn becomes the same tokens again, and is a cache hit as
    it would be with a real model.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "tokenizer_config.json").read_text())
        self._template = ChatTemplate(config["chat_template"])
        pieces = self._tokenizer.get_vocab()
        self._words = sorted(
            number
            for text, number in pieces.items()
            if text.startswith(_WORD_START) and text[1:].isalpha() and text[1:].isascii() and len(text) > _SHORTEST_WORD
        )
        self._texts = {number: " " + (self._tokenizer.id_to_token(number) or "")[1:] for number in self._words}
        self.longest_token = max(map(len, pieces))
        """Characters of the longest token: with them, a text's length bounds its tokens from below."""
        self.size = len(pieces)

    def encode(self, text: str) -> array[int]:
        return array("I", self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Each token as the tokenizer's file writes it."""
        return [self._tokenizer.id_to_token(number) or "" for number in ids]

    def chat(self, talk: Talk) -> str:
        """The text of a conversation. Raises Untemplatable."""
        return self._template.render(talk)

    def next_token(self, request: EngineRequest) -> int:
        """The model."""
        return self.word(request.seed, request.output_tokens)

    def word(self, seed: int, place: int) -> int:
        """The token at a place of the answer to a prompt."""
        return self._words[(seed + _STRIDE * place) % len(self._words)]

    def text(self, token: int) -> str:
        """What one token of an answer looks like."""
        return self._texts[token]


class ChatTemplate:
    """A chat template with what transformers gives to it."""

    def __init__(self, template: str) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        self._compiled = environment.from_string(template)

    def render(self, talk: Talk) -> str:
        """The text; of a conversation that continues its last message, up to that message's own end.

        Raises Untemplatable.
        """
        try:
            return self._continued(talk) if talk.continue_final_message else self._rendered(talk, talk.messages)
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise Untemplatable(str(error)) from error

    def _rendered(self, talk: Talk, messages: Sequence[dict[str, object]]) -> str:
        own = {"messages": messages, "tools": talk.tools, "add_generation_prompt": talk.add_generation_prompt}
        return self._compiled.render({**talk.arguments, **own})

    def _continued(self, talk: Talk) -> str:
        *before, last = talk.messages
        text = self._rendered(talk, [*before, {**last, "content": f"{last['content']}{_CONTINUED}"}])
        cut = text.rfind(_CONTINUED.strip())
        if cut < 0:
            raise ValueError("the template drops the text to continue")
        # A template that trimmed the mark's space trims messages, so it would have trimmed this one's end, too.
        return text[:cut] if text.startswith(_CONTINUED, cut) else text[:cut].rstrip()


def _tojson(value: object, ensure_ascii: bool = False, indent: int | None = None) -> str:
    """Without the escapes for HTML that Jinja's own filter makes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)
