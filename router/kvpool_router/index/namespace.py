"""What must agree beside the tokens before a cached block may be used."""

from typing import Any, NamedTuple

from kvpool_router.events.wire import BlockStored


class Namespace(NamedTuple):
    """Prompts of different namespaces never share blocks: vLLM hashes both into every chain of blocks."""

    lora_name: str | None = None
    cache_salt: str | None = None


class Identity(NamedTuple):
    """What an event's blocks belong to."""

    namespace: Namespace
    """Of the prompt, where the event begins one; later events inherit their parent's."""
    text_blocks: int
    """Leading blocks that tokens and namespace identify; the others depend on images or embeddings as well."""


def identity(event: BlockStored) -> Identity:
    """Reads the extra keys of vLLM's blocks: LoRA name, multimodal pairs, cache salt (first block only), embeddings.

    An adapter known by number alone (releases before `lora_name`) cannot be told from a request: no text blocks.
    """
    count = len(event.block_hashes)
    if event.lora_name is None and event.lora_id is not None:
        return Identity(Namespace(), 0)
    namespace = Namespace(event.lora_name)
    if event.extra_keys is None or event.extra_keys.count(None) == len(event.extra_keys) == count:
        return Identity(namespace, count)
    own = [_beyond_lora(keys, event) for keys in event.extra_keys]
    if event.parent_block_hash is None and own and len(own[0]) == 1 and isinstance(own[0][0], str):
        namespace = Namespace(event.lora_name, own[0][0])
        own[0] = ()
    foreign = (position for position, keys in enumerate(own) if keys)
    return Identity(namespace, min(next(foreign, len(own)), count))


def _beyond_lora(keys: tuple[Any, ...] | None, event: BlockStored) -> tuple[Any, ...]:
    """The keys without the adapter's, which comes first: its name, or its number in older releases."""
    if not keys:
        return ()
    return keys[1:] if event.lora_name is not None and keys[0] in (event.lora_name, event.lora_id) else keys
