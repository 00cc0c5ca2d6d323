"""What operator and router say to each other: the router's configuration, and its admin answers.

Both ends validate with these models, so a change of one side that the other does not know fails a test, not a pool.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from kvpool_api.meta import ApiModel
from kvpool_api.spec import Strategy

ENGINE_HTTP_PORT = 8000
ROUTER_HTTP_PORT = 8000
ROUTER_ADMIN_PORT = 8001
HTTP_PORT_NAME = "http"
ADMIN_PORT_NAME = "admin"
EVENTS_PORT_NAME = "kv-events"
REPLAY_PORT_NAME = "kv-replay"

ROUTER_CONFIG_PATH = "/etc/kvpool/router/router.json"
ADMIN_TOKEN_PATH = "/etc/kvpool/admin/token"  # noqa: S105 - a path


ASKS_ENGINES = "asks an engine's /tokenize"
"""How `RouterState.tokenizer` begins where a router has no tokenizer of its own."""


class TokenizerConfig(ApiModel):
    """Where the router finds the model's tokenizer; with neither it asks an engine's `/tokenize`."""

    path: str | None = None
    """A folder with tokenizer.json and tokenizer_config.json."""
    hub_name: str | None = None
    """The model's name on the hub."""
    hub_revision: str | None = None
    chat_template_path: str | None = None
    """A file with a chat template that replaces the model's own."""


class RouterConfig(ApiModel):
    """The router's one configuration file, rendered by the operator into the ConfigMap `<pool>-router`."""

    pool: str
    namespace: str
    model: str
    served_names: list[str] = []
    tokenizer: TokenizerConfig = TokenizerConfig()
    block_tokens: int
    strategy: Strategy = Strategy.CACHE_AWARE
    max_body_bytes: int
    sync_timeout_s: float
    """How long readiness may wait for the event plane."""
    prediction_ttl_s: float = 60.0
    """How long "this prompt was just sent there" counts before an event confirms it."""
    metrics_interval_s: float = 5.0
    """How often each engine's metrics are read."""
    kept_decisions: int = 1000


class EventState(StrEnum):
    """How far the map of one worker can be trusted."""

    EXACT = "EXACT"
    """Every event since its start, or since a clean snapshot, is applied."""
    DEGRADED = "DEGRADED"
    """Something is missing; a replay is under way, or the buffer no longer holds it."""
    APPROXIMATE = "APPROXIMATE"
    """No events: predictions only."""


class MapTrust(StrEnum):
    """Whether what the map says of a worker counts."""

    TRUSTED = "TRUSTED"
    DISTRUSTED = "DISTRUSTED"
    """The engine's answers contradict it: the worker is chosen by load alone, and its events are read anew."""
    ON_TRIAL = "ON_TRIAL"
    """It counts again, and has to prove itself."""


class WorkerAudit(ApiModel):
    """How the map's word compares with what an engine reports to have found in its cache."""

    trust: MapTrust
    equal_percent: float | None
    """Of the last 256 compared answers, those with as many whole blocks as were predicted; null before the first."""
    true_percent: float | None
    """The same, with those for which the worker's events tell why they differ."""
    outcomes: dict[str, int]
    """Answers since this process of the engine was first seen, by outcome."""
    over_blocks: int
    """Blocks that were predicted and not found."""
    under_blocks: int
    """Blocks that were found and not predicted."""
    reported: bool | None
    """Whether the engine reports cached tokens; null while that is not known."""


class TokenParity(StrEnum):
    """Whether an engine makes the same token ids of a prompt as the router."""

    AGREES = "Agrees"
    DIFFERS = "Differs"
    """Its blocks cannot be known by the router's ids: it is chosen by load, or all texts are tokenized by engines."""
    UNKNOWN = "Unknown"


class WorkerState(ApiModel):
    """One worker, as one router sees it."""

    pod: str
    pod_uid: str
    dp_rank: int
    url: str
    events: EventState
    events_reason: str
    """One sentence: why this state."""
    synced: bool
    """Subscribed and replayed since this process of the engine started, whatever came of it."""
    blocks: int
    """KV blocks on the GPU, by its events."""
    blocks_below_gpu: int = 0
    """The same in main memory and on storage together; a block that is in both counts twice."""
    last_sequence: int | None
    lag_ms: float | None
    """Age of the newest batch when it was applied."""
    gaps: int
    skipped_events: int
    wiring_confirmed: bool | None = None
    """Whether events are looked for where the engine itself says it publishes; null while it has not told."""
    ready: bool
    draining: bool
    in_flight: int
    queued_prefill_tokens: int
    running: int | None
    waiting: int | None
    kv_usage_percent: float | None
    circuit_open: bool = False
    tokens: TokenParity = TokenParity.UNKNOWN
    tokens_reason: str = ""
    """One sentence: why."""
    audit: WorkerAudit | None = None


class UntokenizedCause(StrEnum):
    """Why a prompt was placed by load alone: its token ids, as an engine will see them, could not be told."""

    MEDIA = "Media"
    """It holds images, audio, video, or arguments for what processes them."""
    EMBEDDINGS = "Embeddings"
    """It is made of vectors."""
    TRUNCATION = "Truncation"
    """The engine may cut it."""
    OWN_TEMPLATE = "OwnTemplate"
    """It brings a chat template of its own, or arguments that replace what the request itself says."""
    STORED_RESPONSE = "StoredResponse"
    """It continues a response that only its engine has."""
    ENGINE_ONLY = "EngineOnly"
    """The engine reads it by rules of its own: tools that are not functions, text to fill in, forwarded token ids."""
    MALFORMED = "Malformed"
    """The engine has to judge it, and will most likely refuse it."""
    TEMPLATE = "Template"
    """The model has no chat template, or it does not take these messages."""
    ENGINE_FAILED = "EngineFailed"
    """The engine that was asked for its token ids gave none."""
    NO_TOKENIZER = "NoTokenizer"
    """There is nobody to ask."""


class SiblingState(ApiModel):
    """Another router of the pool, as one router hears it."""

    router: str
    heard: bool
    """What it sends where is told as it happens, and counts here as if sent from here."""
    reason: str
    """One sentence: why not."""
    in_flight: int
    """Requests of its that are booked here now."""


class WindowFacts(ApiModel):
    """Sums over the last five minutes of finished requests."""

    requests: int
    prompt_tokens: int
    cached_tokens: int
    predicted_tokens: int
    errors: int
    untokenized: dict[UntokenizedCause, int] = {}
    """Requests placed by load alone since their token ids could not be told, by cause."""
    ttft_p50_ms: float | None
    ttft_p90_ms: float | None


class RouterState(ApiModel):
    """`GET /state` on the admin port."""

    router: str
    ready: bool
    ready_reason: str
    tokenizer: str
    """Which implementation is in use and from where."""
    strategy: Strategy
    queue: int
    """Requests that no worker has yet, since their prompts are still being tokenized."""
    window: WindowFacts
    map_origin: str = ""
    """One sentence: whether the cache map began with a sibling's or with the engines' replay, and why."""
    siblings: list[SiblingState] = []
    workers: list[WorkerState]


class CandidateCost(ApiModel):
    """What placing the request on one worker was expected to cost, in seconds, part by part."""

    pod: str
    dp_rank: int
    cost_s: float
    parts_s: dict[str, float]
    cached_tokens: int
    predicted_tokens: int


class Decision(ApiModel):
    """Why a request went where it went. Holds no prompt content."""

    request_id: str
    time: str
    """RFC 3339."""
    path: str
    strategy: Strategy
    prompt_tokens: int | None
    """Null where the prompt could not be tokenized."""
    untokenized: UntokenizedCause | None = None
    """Why it could not; `reason` says it in words."""
    pod: str | None
    dp_rank: int | None
    reason: str
    candidates: list[CandidateCost]
    predicted_cached_tokens: int | None
    cached_tokens: int | None
    """What the engine reported, once known."""
    ttft_ms: float | None
    attempts: Annotated[int, Field(ge=0)]
    outcome: str
    """`in flight`, `ok`, `client gone`, or the error's code."""


class Decisions(ApiModel):
    """`GET /decisions` on the admin port, newest first."""

    router: str
    decisions: list[Decision]
