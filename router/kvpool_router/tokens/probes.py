"""What vLLM 0.32 tries out on a model's templates before it serves `/v1/messages` (`anthropic/serving.py`)."""

from collections.abc import Callable, Iterable

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kvpool_router.requests.prompts import Message

_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_SYSTEM_TWICE = [{"role": role, "content": "t"} for role in ("system", "user", "system", "user")]


def wants_system_first(templates: Iterable[str]) -> bool:
    """Whether one of them refuses a system message inside a conversation. vLLM's own trial lacks most of transformers'
    filters and globals, so that a template which needs one counts as refusing.
    """
    return any(map(_refuses_late_system, templates))


def _refuses_late_system(template: str) -> bool:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    try:
        environment.from_string(template).render(messages=_SYSTEM_TWICE, add_generation_prompt=False)
    except TemplateError:
        return True
    return False


def with_system_first(messages: list[Message]) -> list[Message]:
    """All system messages in one at the head."""
    texts = [content for each in messages if each["role"] == "system" and isinstance(content := each["content"], str)]
    if not texts:
        return messages
    return [{"role": "system", "content": "".join(texts)}, *(each for each in messages if each["role"] != "system")]


def effort_without_thinking(rendered: Callable[[str], str | None]) -> str:
    """The effort that stands for disabled thinking, from how a small chat renders with each; None where it does not."""
    quiet = rendered("none")
    return "low" if quiet is None or any(rendered(effort) == quiet for effort in _EFFORTS) else "none"
