"""What forms share: fields, printed functions, and how a body becomes one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kvpool_sim.conversation import Talk
from kvpool_sim.refusal import invalid
from kvpool_sim.sampling import Sampling, check_salt

Body: TypeAlias = Mapping[str, Any]
Id: TypeAlias = Annotated[int, Field(ge=0)]
Ids: TypeAlias = list[Id]
Stops: TypeAlias = Annotated[list[str], Field(max_length=4)]
Echo: TypeAlias = Literal["nothing", "prompt", "prompt alone"]


class Form(BaseModel):
    """What every API shares."""

    model_config = ConfigDict(protected_namespaces=())

    model: str | None = None
    stream: bool | None = False
    cache_salt: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _salt(cls, body: Body) -> Body:
        check_salt(body.get("cache_salt"))
        return body

    @property
    def limit_field(self) -> str:
        """Which field bounds the output."""
        return "max_tokens"

    def sampling(self) -> Sampling:
        raise NotImplementedError

    def talk(self) -> Talk:
        """The conversation, where the API has one."""
        raise NotImplementedError

    def tool_choice_needing_a_parser(self) -> str | None:
        """As the client or a default says it; None: whatever the model says is taken as text."""
        return None

    def wants_usage(self) -> tuple[bool, bool]:
        """At the end of a stream, and in each of its parts."""
        return False, False

    def listed(self) -> list[str] | list[Ids] | None:
        """Prompts as text or token ids; None: there is a conversation."""
        return None

    def echoes(self) -> Echo:
        return "nothing"

    def tells_ids(self) -> bool:
        """Whether the answer tells its token ids, too."""
        return False

    def stored_response(self) -> str | None:
        """An earlier answer that is to be continued."""
        return None

    def instructed(self) -> str | None:
        """What the answer repeats of the instructions."""
        return None


class Sampled(Form):
    """Parameters that all take that generate."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None

    def _common(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}


class Function(BaseModel):
    """A function that the model may call, printed with the fields, defaults and order that vLLM has."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    defer_loading: bool | None = None

    def printed(self) -> dict[str, Any]:
        told: dict[str, Any] = {"name": self.name, "description": self.description, "parameters": self.parameters}
        optional = {"strict": self.strict, "defer_loading": self.defer_loading}
        told |= {name: value for name, value in optional.items() if value is not None}
        return {"type": "function", "function": told}


class Reasoning(BaseModel):
    effort: str | None = None


AnyForm = TypeVar("AnyForm", bound=BaseModel)


def filled(form: type[AnyForm], body: Body) -> AnyForm:
    """The form with the body's values. Raises Refusal: a field is missing or of another type."""
    try:
        return form.model_validate(body, from_attributes=True)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False)) from None


def stop_strings(given: str | list[str] | None) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())
