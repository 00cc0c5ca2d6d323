"""Chat templates, rendered as transformers renders them: the same sandbox, filters, globals and block trimming."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from kvpool_api.wire import UntokenizedCause

from kvpool_router.requests.chat import template_arguments
from kvpool_router.requests.prompts import ChatPrompt, Json, Message
from kvpool_router.tokens.content_format import takes_parts
from kvpool_router.tokens.conversation import conversation
from kvpool_router.tokens.probes import effort_without_thinking, wants_system_first, with_system_first
from kvpool_router.tokens.protocol import Untokenizable

_RESERVED = frozenset({"chat_template", "conversation", "messages", "tokenize", "tools"})
_OVERRIDDEN = ("add_generation_prompt", "continue_final_message")
"""Arguments that the request itself always sets."""
_CONTINUE_TAG = "CONTINUE_FINAL_MESSAGE_TAG "
_MOST_REMEMBERED = 1000
"""Attributes whose safety is remembered: a template names a few dozen, but may also make names of what clients send."""


class _GenerationBlock(Extension):
    """`{% generation %}` marks what the model wrote, for training; rendering passes it through."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own way to declare it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class _Sandbox(ImmutableSandboxedEnvironment):
    """The same answers in half the time.

    Whether an attribute is safe depends on the object's type and on nothing else of it, so it is asked once. A key of
    a message is taken at once, where the base class first looks for an attribute of that name and fails.
    """

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols])
        self._safe: dict[tuple[type, str], bool] = {}

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:
        asked = (type(obj), attr)
        safe = self._safe.get(asked)
        if safe is None:
            safe = super().is_safe_attribute(obj, attr, value)
            if len(self._safe) < _MOST_REMEMBERED:
                self._safe[asked] = safe
        return safe

    def getattr(self, obj: object, attribute: str) -> object:
        if type(obj) is dict and attribute in obj and not hasattr(dict, attribute):
            return obj[attribute]
        found: object = super().getattr(obj, attribute)
        return found


class ChatTemplate:
    """One model's template or templates by name; `tool_use`, where there is one, serves requests with tools."""

    def __init__(self, templates: Mapping[str, str], special_tokens: Mapping[str, Json]) -> None:
        environment = _environment()
        self._compiled = {name: environment.from_string(text) for name, text in templates.items()}
        self._takes_parts = {name: takes_parts(environment, text) for name, text in templates.items()}
        self._texts = dict(templates)
        self._system_first = wants_system_first(templates.values())
        self._effort_without_thinking: str | None = None
        self._special_tokens = dict(special_tokens)

    def render(self, prompt: ChatPrompt) -> str:
        """The text that the engine tokenizes.

        Raises Untokenizable: there is no template, or it does not take these messages; the engine will say so.
        """
        name = "tool_use" if prompt.tools is not None and "tool_use" in self._compiled else "default"
        if name not in self._compiled:
            raise Untokenizable(UntokenizedCause.TEMPLATE, "the model has no chat template")
        if _RESERVED & prompt.template_arguments.keys():
            raise Untokenizable(UntokenizedCause.OWN_TEMPLATE, "its template arguments replace the request itself")
        if prompt.no_thinking:
            arguments = template_arguments(dict(prompt.template_arguments), self._without_thinking())
            prompt = replace(prompt, template_arguments=arguments)
        given = with_system_first(prompt.messages) if prompt.late_system and self._system_first else prompt.messages
        text = self._texts[name]
        knows_developer = '"developer"' in text or "'developer'" in text
        try:
            messages = conversation(given, takes_parts=self._takes_parts[name], knows_developer=knows_developer)
            if prompt.continue_final_message:
                return self._continued(name, prompt, messages)
            return self._rendered(name, prompt, messages)
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise Untokenizable(UntokenizedCause.TEMPLATE, f"the chat template does not take it: {error}") from error

    def _without_thinking(self) -> str:
        """Found out once: it takes half a dozen renderings."""
        if self._effort_without_thinking is None:
            self._effort_without_thinking = effort_without_thinking(self._with_effort)
        return self._effort_without_thinking

    def _with_effort(self, effort: str) -> str | None:
        try:
            return self.render(ChatPrompt([{"role": "user", "content": "Hi"}], None, template_arguments(None, effort)))
        except Untokenizable:
            return None

    def _rendered(self, name: str, prompt: ChatPrompt, messages: list[Message]) -> str:
        given = {name: value for name, value in prompt.template_arguments.items() if name not in _OVERRIDDEN}
        variables: dict[str, Json] = {"documents": None, **self._special_tokens, **given}
        return self._compiled[name].render(
            messages=messages,
            tools=prompt.tools,
            add_generation_prompt=prompt.add_generation_prompt,
            **variables,
        )

    def _continued(self, name: str, prompt: ChatPrompt, messages: list[Message]) -> str:
        """Cut off where the last message's own text ends, which a tag behind it tells."""
        last = messages[-1]
        content = last.get("content")
        if prompt.add_generation_prompt:
            raise Untokenizable(UntokenizedCause.MALFORMED, "it both continues a message and begins one")
        if isinstance(content, list) and content and isinstance(part := content[-1], dict):
            content[-1] = {**part, "text": f"{part.get('text')}{_CONTINUE_TAG}"}
        elif isinstance(content, str):
            last["content"] = content + _CONTINUE_TAG
        else:
            raise Untokenizable(UntokenizedCause.MALFORMED, "there is no text to continue")
        rendered = self._rendered(name, prompt, messages)
        cut = rendered.rfind(_CONTINUE_TAG.strip())
        if cut < 0:
            raise Untokenizable(UntokenizedCause.TEMPLATE, "the chat template drops the text to continue")
        kept = rendered[:cut]
        return kept if rendered.startswith(_CONTINUE_TAG, cut) else kept.rstrip()


def _environment() -> ImmutableSandboxedEnvironment:
    environment = _Sandbox()
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(
    value: Json,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Without the escapes for HTML that Jinja's own filter makes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
