"""What the engine tells of prompts without generating: `/tokenize`, `/detokenize`, `…/render`, `count_tokens`."""

from __future__ import annotations

from typing import Any

import msgspec

from kvpool_sim.answers.ids import random_id
from kvpool_sim.asks import Api, Ids, Reader
from kvpool_sim.forms.base import Body, Form, filled
from kvpool_sim.forms.openai import ChatForm
from kvpool_sim.forms.tokens import IdsForm, TextForm
from kvpool_sim.refusal import invalid
from kvpool_sim.sampling import Sampling
from kvpool_sim.settings import Settings
from kvpool_sim.vocabulary import Vocabulary

ID_PREFIXES: dict[Api, str] = {
    "chat": "chatcmpl-",
    "completion": "cmpl-",
    "responses": "resp_",
    "messages": "chatcmpl-",
}


class Rendering:
    """Answers as JSON. All raise Refusal."""

    def __init__(self, settings: Settings, vocabulary: Vocabulary, reader: Reader) -> None:
        self._settings = settings
        self._vocabulary = vocabulary
        self._reader = reader

    def tokenized(self, body: Body) -> bytes:
        if "messages" in body:
            chat = filled(ChatForm, body)
            self._reader.check_model(chat.model)
            return self._told(self._reader.chat(chat), with_text=bool(body.get("return_token_strs")))
        if not isinstance(body.get("prompt"), str):
            raise invalid(_neither(body))
        form = filled(TextForm, body)
        self._reader.check_model(form.model)
        return self._told(self._vocabulary.encode(form.prompt), with_text=bool(form.return_token_strs))

    def detokenized(self, body: Body) -> bytes:
        form = filled(IdsForm, body)
        self._reader.check_model(form.model)
        known = [token for token in form.tokens if token < self._vocabulary.size]
        return msgspec.json.encode({"prompt": self._vocabulary.decode(known)})

    def counted(self, body: Body) -> bytes:
        count = self._reader.counted(body)
        return msgspec.json.encode({"input_tokens": count, "context_management": {"original_input_tokens": count}})

    def rendered(self, api: Api, body: Body) -> bytes:
        form, prompts = self._reader.rendered(api, body)
        own = f"{ID_PREFIXES[api]}{random_id()}"
        if api != "completion":
            return msgspec.json.encode(self._request(own, form, prompts[0], api))
        ids = [own] if len(prompts) == 1 else [f"{own}-{number}" for number in range(len(prompts))]
        return msgspec.json.encode(
            [self._request(each, form, prompt, api) for each, prompt in zip(ids, prompts, strict=True)]
        )

    def _told(self, ids: Ids, *, with_text: bool) -> bytes:
        told: dict[str, object] = {"count": len(ids), "max_model_len": self._settings.limits.max_model_len}
        strings = self._vocabulary.pieces(ids) if with_text else None
        return msgspec.json.encode(told | {"tokens": ids.tolist(), "token_strs": strings})

    def _request(self, own: str, form: Form, prompt: Ids, api: Api) -> dict[str, object]:
        rest = self._settings.limits.max_model_len - len(prompt)
        return {
            "request_id": own,
            "token_ids": prompt.tolist(),
            "token_offsets": None,
            "features": None,
            "content_parts": None,
            "sampling_params": _sampling_params(form.sampling(), rest, api),
            "model": self._reader.check_model(form.model),
            "reasoning_ended": None,
            "reasoning_parser_kwargs": None,
            "return_token_ids": form.tells_ids() or None,
            "output_mode": "tokens",
            "stream": bool(form.stream),
            "stream_options": None,
            "cache_salt": form.cache_salt,
            "priority": 0,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
        }


def _sampling_params(sampling: Sampling, rest: int, api: Api) -> dict[str, object]:
    """As vLLM prints them: a limit of 16, its own default for completions, goes without saying."""
    limit = rest if sampling.max_tokens is None else min(rest, sampling.max_tokens)
    return {
        "presence_penalty": sampling.presence_penalty or 0.0,
        "frequency_penalty": sampling.frequency_penalty or 0.0,
        "repetition_penalty": sampling.repetition_penalty or 1.0,
        "temperature": 1.0 if sampling.temperature is None else sampling.temperature,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "min_p": sampling.min_p or 0.0,
        "stop": list(sampling.stop),
        "stop_token_ids": sorted(sampling.stop_token_ids),
        **({} if limit == 16 else {"max_tokens": limit}),
        "output_kind": 2,
        "skip_clone": True,
        **({"extra_args": {}} if api == "responses" else {}),
        "bad_words": [],
        "skip_reading_prefix_cache": False,
    }


def _neither(body: Body) -> list[Any]:
    """Of a body of `/tokenize` that is neither text nor a chat: what is wrong with each."""
    missing: dict[str, object] = {"type": "missing", "msg": "Field required", "input": body}
    prompt = missing | {"loc": ("prompt",)}
    if "prompt" in body:
        text = "Input should be a valid string"
        prompt = {"type": "string_type", "loc": ("prompt",), "msg": text, "input": body["prompt"]}
    return [prompt, missing | {"loc": ("messages",)}]
