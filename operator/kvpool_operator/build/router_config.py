"""The router's configuration file and the ConfigMap that carries it."""

from kvpool_api.labels import router_name
from kvpool_api.pool import InferencePool
from kvpool_api.wire import RouterConfig, TokenizerConfig

from kvpool_operator.build.model_files import model_files
from kvpool_operator.build.parts import Json, metadata

CONFIG_KEY = "router.json"


def router_config(pool: InferencePool) -> RouterConfig:
    """What the pool's routers are told."""
    spec = pool.spec
    files = model_files(spec.model)
    tokenizer = TokenizerConfig(
        path=files.folder,
        hub_name=spec.model.name if files.folder is None else None,
        hub_revision=files.revision,
        chat_template_path=files.chat_template,
    )
    return RouterConfig(
        pool=pool.metadata.name,
        namespace=pool.metadata.namespace,
        model=spec.model.name,
        served_names=spec.model.served_names,
        tokenizer=tokenizer,
        block_tokens=spec.engine.block_size,
        strategy=spec.router.scheduling.strategy,
        max_body_bytes=spec.router.max_body_bytes,
        sync_timeout_s=spec.kv_events.sync_timeout_seconds,
    )


def config_map(pool: InferencePool) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(pool, router_name(pool.metadata.name)),
        "data": {CONFIG_KEY: router_config(pool).model_dump_json(by_alias=True, indent=1)},
    }
