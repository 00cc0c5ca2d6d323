"""kvpool's own images, made from this checkout: localhost/kvpool/{operator,router,engine-sim}, tagged with the release.

These are the names that deploy/ asks for and `make images` gives. A cluster of somebody else's can be given none. It
pulls them from the registry that KVPOOL_REGISTRY names, where `make images REGISTRY=` has pushed them.
"""

import os
import tomllib
from pathlib import Path

from kvnode import images

ROOT = Path(__file__).resolve().parents[3]
NOWHERE = "localhost"


def registry() -> str:
    return os.environ.get("KVPOOL_REGISTRY", "").rstrip("/") or NOWHERE


def tag() -> str:
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return version


def named(image: str) -> str:
    """As a Pod writes it."""
    return f"{registry()}/kvpool/{image}:{tag()}"


def names() -> dict[str, Path]:
    """Each with its Dockerfile."""
    found = sorted((ROOT / "deploy" / "images").glob("*/Dockerfile"))
    return {named(dockerfile.parent.name): dockerfile for dockerfile in found}


def archives() -> list[Path]:
    """To be loaded; none where a registry has them.

    Those not in the cache are built, half a minute each: with a way out, which a node's own network has not.
    Errors: NodeFailure.
    """
    if registry() != NOWHERE:
        return []
    return [images.build(dockerfile, name, context=ROOT) for name, dockerfile in names().items()]
