"""The allow-list: which paths reach an engine, and how each is placed."""

from dataclasses import dataclass
from enum import Enum

from kvpool_router.requests.refusal import Dialect, Refusal, shortened


class Placement(Enum):
    """How a worker is found for a path."""

    BY_COST = "by cost"
    """A prompt: the strategy decides."""
    ANY = "any"
    """Every worker answers alike."""
    LOOKED_UP = "looked up"
    """An entry of the list of models: engines have no path for one alone."""
    STICKY = "sticky"
    """Only the worker that made the stored response knows it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One served path."""

    path: str
    method: str
    placement: Placement
    dialect: Dialect = Dialect.OPENAI


RESPONSES = "/v1/responses"
MODELS = "/v1/models"

_ENDPOINTS = {
    each.path: each
    for each in (
        Endpoint("/v1/chat/completions", "POST", Placement.BY_COST),
        Endpoint("/v1/completions", "POST", Placement.BY_COST),
        Endpoint(RESPONSES, "POST", Placement.BY_COST, Dialect.RESPONSES),
        Endpoint("/v1/messages", "POST", Placement.BY_COST, Dialect.ANTHROPIC),
        Endpoint("/v1/messages/count_tokens", "POST", Placement.ANY, Dialect.ANTHROPIC),
        Endpoint(MODELS, "GET", Placement.ANY),
        Endpoint("/tokenize", "POST", Placement.ANY),
        Endpoint("/detokenize", "POST", Placement.ANY),
        Endpoint("/version", "GET", Placement.ANY),
    )
}
_MODEL = Endpoint(MODELS + "/{id}", "GET", Placement.LOOKED_UP)
_STORED_READ = Endpoint(RESPONSES + "/{id}", "GET", Placement.STICKY, Dialect.RESPONSES)
_STORED_CANCEL = Endpoint(RESPONSES + "/{id}/cancel", "POST", Placement.STICKY, Dialect.RESPONSES)

_MANAGEMENT = frozenset(
    {
        "/abort_requests",
        "/collective_rpc",
        "/init_weight_transfer_engine",
        "/get_world_size",
        "/inference/v1/generate",
        "/invocations",
        "/is_paused",
        "/is_scaling_elastic_ep",
        "/is_sleeping",
        "/kv_event_sources",
        "/load",
        "/pause",
        "/release_kv_cache_memory",
        "/reset_encoder_cache",
        "/reset_mm_cache",
        "/reset_prefix_cache",
        "/resume",
        "/scale_elastic_ep",
        "/server_info",
        "/sleep",
        "/shutdown_weight_transfer_engine",
        "/start_profile",
        "/start_draft_weight_update",
        "/start_weight_update",
        "/finish_weight_update",
        "/fault_tolerance/apply",
        "/fault_tolerance/status",
        "/stop_profile",
        "/update_weights",
        "/update_weight_version",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/wake_up",
        "/weight_checker",
        "/weight_info",
    }
)
_ENGINE_ONLY = ("/render", "/derender")


def resolve(method: str, path: str) -> Endpoint:
    """The endpoint that serves this request. What browsers ask before it (OPTIONS) is for the engines to permit.

    Raises Refusal: 403 for what manages an engine, 405 for the wrong method, 404 for the rest.
    """
    found = _ENDPOINTS.get(path) or _stored(path) or _model(path)
    if found is None:
        raise _unserved(path)
    if method == "OPTIONS":
        return Endpoint(found.path, method, Placement.ANY, found.dialect)
    if found.method != method:
        raise Refusal(405, f"{path} takes {found.method}, not {shortened(method)}.", allow=found.method)
    return found


def stored_id(path: str) -> str:
    """The response id in the path of a sticky endpoint."""
    return path.removeprefix(RESPONSES + "/").removesuffix("/cancel")


def dialect_of(path: str) -> Dialect:
    """Whose error shape a path's clients expect, served or not."""
    if path.startswith("/v1/messages"):
        return Dialect.ANTHROPIC
    return Dialect.OPENAI


def model_name(path: str) -> str:
    """The model in the path of a looked-up endpoint; names may hold slashes."""
    return path.removeprefix(MODELS + "/")


def _model(path: str) -> Endpoint | None:
    return _MODEL if path.startswith(MODELS + "/") and model_name(path) else None


def _stored(path: str) -> Endpoint | None:
    response_id = stored_id(path)
    if not path.startswith(RESPONSES + "/") or not response_id or "/" in response_id:
        return None
    return _STORED_CANCEL if path.endswith("/cancel") else _STORED_READ


def _unserved(path: str) -> Refusal:
    if path in _MANAGEMENT or path.endswith(_ENGINE_ONLY):
        return Refusal(403, f"{shortened(path)} manages an engine and is not open through the pool; ask its operator.")
    return Refusal(404, f"{shortened(path)} is not served; the pool serves {', '.join(sorted(_ENDPOINTS))}.")
