"""Bodies of the inference APIs as prompts in tokens and what to do with them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from kvpool_sim.answers.openai import UsageRule
from kvpool_sim.conversation import NotText, for_template
from kvpool_sim.forms.anthropic import CountForm, MessagesForm
from kvpool_sim.forms.base import Body, Echo, Form, filled
from kvpool_sim.forms.openai import ChatForm, CompletionForm
from kvpool_sim.forms.responses import ResponsesForm
from kvpool_sim.refusal import Refusal, named, unknown_model, unknown_response
from kvpool_sim.sampling import Sampling, check_sampling
from kvpool_sim.settings import VOCABULARY, Settings
from kvpool_sim.vocabulary import Untemplatable, Vocabulary

Api = Literal["chat", "completion", "responses", "messages"]
Ids: TypeAlias = "array[int]"

FORMS: Mapping[Api, type[Form]] = {
    "chat": ChatForm,
    "completion": CompletionForm,
    "responses": ResponsesForm,
    "messages": MessagesForm,
}


@dataclass(frozen=True, slots=True)
class Ask:
    """A checked request."""

    api: Api
    model: str
    prompts: list[Ids]
    sampling: Sampling
    max_tokens: int
    """What is asked for, or the rest of the context, of each answer."""
    salt: str | None
    adapter: str | None
    stream: bool
    usage: UsageRule
    echo: Echo
    tells_ids: bool
    instructions: str | None


class Reader:
    """Turns bodies into asks. Raises Refusal for what vLLM would refuse."""

    def __init__(self, settings: Settings, vocabulary: Vocabulary) -> None:
        self._settings = settings
        self._vocabulary = vocabulary

    def read(self, api: Api, body: Body) -> Ask:
        """What a body of one of the inference APIs asks for."""
        form = filled(FORMS[api], body)
        model = self.check_model(form.model)
        prompts = self.prompts(form)
        sampling = form.sampling()
        rest = self._settings.limits.max_model_len - max(map(len, prompts))
        most = rest if sampling.max_tokens is None else min(rest, sampling.max_tokens)
        check_sampling(replace(sampling, max_tokens=most))
        return Ask(
            api,
            model,
            prompts,
            sampling,
            most,
            form.cache_salt,
            model if model in self._settings.adapters else None,
            bool(form.stream),
            self._usage_rule(form),
            form.echoes(),
            form.tells_ids(),
            form.instructed(),
        )

    def rendered(self, api: Api, body: Body) -> tuple[Form, list[Ids]]:
        """The form and the token ids of each of its prompts."""
        form = filled(FORMS[api], body)
        self.check_model(form.model)
        return form, self.prompts(form)

    def counted(self, body: Body) -> int:
        """Tokens of a body of `/v1/messages/count_tokens`."""
        form = filled(CountForm, body)
        self.check_model(form.model)
        return len(self._conversation(form))

    def check_model(self, name: str | None) -> str:
        """The model's name as the answer tells it. Raises Refusal: it is not served."""
        served = (*self._settings.served_names, *self._settings.adapters)
        if name and name not in served:
            raise unknown_model(name, served)
        return name or served[0]

    def prompts(self, form: Form) -> list[Ids]:
        longest, wanted = self._settings.limits.max_model_len, form.sampling().max_tokens
        if wanted is not None and wanted > longest:
            field = form.limit_field
            text = f"{field}={wanted} cannot be greater than max_model_len={longest}."
            raise named(field, f"{text} Please request fewer output tokens.", wanted)
        listed = form.listed()
        return [self._conversation(form)] if listed is None else [self._ids(each) for each in listed]

    def chat(self, form: ChatForm) -> Ids:
        """Token ids of a chat for `/tokenize`, which bounds no length and looks for no tools' parser."""
        return self._vocabulary.encode(self._templated(form))

    def _conversation(self, form: Form) -> Ids:
        self._check_tools(form)
        stored = form.stored_response()
        if stored is not None:
            raise unknown_response(stored)
        return self._text(self._templated(form))

    def _templated(self, form: Form) -> str:
        talk = form.talk()
        if not talk.messages:
            raise Refusal(400, "Cannot apply chat template to an empty conversation. Provide at least one message.")
        try:
            return self._vocabulary.chat(replace(talk, messages=for_template(talk.messages)))
        except NotText:
            raise Refusal(400, f"{self._settings.served_names[0]} is not a multimodal model") from None
        except Untemplatable as error:
            raise Refusal(400, str(error)) from None

    def _check_tools(self, form: Form) -> None:
        wanted = form.tool_choice_needing_a_parser()
        if wanted is None or self._settings.calls_tools:
            return
        if wanted == '"auto"':
            text = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
            raise Refusal(400, text)
        raise Refusal(400, f"tool_choice={wanted} requires --tool-call-parser to be set")

    def _ids(self, prompt: str | list[int]) -> Ids:
        if not prompt:
            raise Refusal(400, "The decoder prompt cannot be empty")
        if isinstance(prompt, str):
            return self._text(prompt)
        if max(prompt) >= VOCABULARY:
            raise Refusal(400, f"Token id {max(prompt)} is out of vocabulary")
        return self._checked(array("I", prompt))

    def _text(self, text: str) -> Ids:
        """Too long a text is refused before it costs any time."""
        longest = self._settings.limits.max_model_len
        most = longest * self._vocabulary.longest_token
        if len(text) > most:
            told = f"{len(text)} characters (more than {most} characters, which is the upper bound for {longest} input"
            raise named("input_text", f"{self._too_long(f'{told} tokens)')}", len(text))
        ids = self._vocabulary.encode(text)
        if len(ids) > longest:
            # The real tokenizer stops there, so that nobody knows how many there would be.
            told = f"at least {longest + 1} input tokens, which exceeds this limit even without any output tokens"
            raise named("input_tokens", self._too_long(told), longest + 1)
        return ids

    def _checked(self, ids: Ids) -> Ids:
        if len(ids) > self._settings.limits.max_model_len:
            told = f"{len(ids)} input tokens, which exceeds this limit even without any output tokens"
            raise named("input_tokens", self._too_long(told), len(ids))
        return ids

    def _too_long(self, told: str) -> str:
        context = f"This model's maximum context length is {self._settings.limits.max_model_len} tokens."
        return f"{context} However, your prompt contains {told}. Please reduce the length of the input prompt."

    def _usage_rule(self, form: Form) -> UsageRule:
        at_end, in_each = form.wants_usage()
        forced = self._settings.force_usage
        return UsageRule(at_end or forced, in_each or forced)
