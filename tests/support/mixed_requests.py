"""Requests as a busy pool sees them, by seed: all four APIs, streams and plain ones, tools, salts, token ids, growing
conversations; in groups that share beginnings. Pure."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

CHAT, TEXT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"

WORDS = (
    *(
        "engine",
        "block",
        "prefix",
        "cache",
        "token",
        "queue",
        "hit",
        "rate",
        "router",
        "pool",
        "drain",
        "evict",
        "tier",
    ),
    *(
        "naïve",
        "façade",
        "北京",
        "東京",
        "🙂",
        "Zürich",
        "—",
        "“quoted”",
        "\\n",
        "\t",
        "{json: [1, 2]}",
        "<tag>",
        "def",
    ),
)
WEATHER = {
    "name": "weather",
    "description": 'Tells the weather, e.g. of "Zürich" & <others>',
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
        "required": ["city"],
    },
}
CLOCK = {"name": "clock", "parameters": {"type": "object", "properties": {}}}
GROUPS, CONVERSATIONS, SALTS = 8, 8, ("tenant-a", "tenant-b")


class Ask(NamedTuple):
    """One request."""

    kind: str
    path: str
    body: Mapping[str, Any]


@dataclass
class Mixture:
    """An endless stream of requests; the same seed asks the same.

    `words`: how long a shared beginning is; a word is 2 to 3 tokens.
    """

    model: str
    seed: int
    words: int = 150
    _turns: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._systems = [self._text(self.words) for _ in range(GROUPS)]
        self._ids = [self._token_ids(3 * self.words) for _ in range(GROUPS)]

    def __iter__(self) -> Iterator[Ask]:
        kinds = (
            self._conversation,
            self._chat_with_tools,
            self._chat_with_salt,
            self._chat_in_parts,
            self._text_prompt,
            self._token_prompt,
            self._token_prompt,
            self._messages,
            self._responses,
        )
        while True:
            path, body = (kind := self._draw.choice(kinds))()
            limit = "max_output_tokens" if path == RESPONSES else "max_tokens"
            stream = {"stream": True} if self._draw.random() < 0.4 else {}
            told = {"model": self.model, limit: self._draw.randint(1, 12), **stream, **body}
            yield Ask(kind.__name__.strip("_"), path, told)

    def _conversation(self) -> tuple[str, dict[str, Any]]:
        """One turn more of a conversation than the last time; after some turns another one begins."""
        which = self._draw.randrange(CONVERSATIONS)
        turns = self._turns.setdefault(which, [])
        if not turns or len(turns) > 12:
            turns[:] = [{"role": "system", "content": self._text(self.words // 2)}]
        else:
            turns.append({"role": "assistant", "content": self._text(self._draw.randint(5, 40))})
        turns.append({"role": "user", "content": self._text(self._draw.randint(3, 60))})
        return CHAT, {"messages": list(turns)}

    def _chat_with_tools(self) -> tuple[str, dict[str, Any]]:
        tools = [{"type": "function", "function": each} for each in (WEATHER, CLOCK)][: self._draw.randint(1, 2)]
        messages = [{"role": "system", "content": self._system()}, self._user()]
        if self._draw.random() < 0.5:
            call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}}
            messages += [
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": '{"sky": "clear"}'},
            ]
        return CHAT, {"messages": messages, "tools": tools, "tool_choice": "none"}

    def _chat_with_salt(self) -> tuple[str, dict[str, Any]]:
        messages = [{"role": "system", "content": self._systems[0]}, self._user()]
        return CHAT, {"messages": messages, "cache_salt": self._draw.choice(SALTS)}

    def _chat_in_parts(self) -> tuple[str, dict[str, Any]]:
        parts = [
            {"type": "text", "text": self._text(self._draw.randint(1, 20))} for _ in range(self._draw.randint(1, 3))
        ]
        return CHAT, {"messages": [{"role": "system", "content": self._system()}, {"role": "user", "content": parts}]}

    def _text_prompt(self) -> tuple[str, dict[str, Any]]:
        return TEXT, {"prompt": f"{self._system()} {self._text(self._draw.randint(1, 40))}"}

    def _token_prompt(self) -> tuple[str, dict[str, Any]]:
        prompt = [*self._draw.choice(self._ids), *self._token_ids(self._draw.randint(0, 120))]
        salt = {"cache_salt": self._draw.choice(SALTS)} if self._draw.random() < 0.2 else {}
        return TEXT, {"prompt": prompt, **salt}

    def _messages(self) -> tuple[str, dict[str, Any]]:
        return MESSAGES, {"system": self._system(), "messages": [self._user()]}

    def _responses(self) -> tuple[str, dict[str, Any]]:
        return RESPONSES, {"instructions": self._system(), "input": self._text(self._draw.randint(1, 40))}

    def _system(self) -> str:
        return self._draw.choice(self._systems)

    def _user(self) -> dict[str, Any]:
        return {"role": "user", "content": self._text(self._draw.randint(1, 40))}

    def _text(self, words: int) -> str:
        return " ".join(self._draw.choices(WORDS, k=words))

    def _token_ids(self, count: int) -> list[int]:
        return [self._draw.randrange(100, 7000) for _ in range(count)]
