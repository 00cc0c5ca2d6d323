"""kvpool's own images, made from this checkout: localhost/kvpool/operator:dev, router and engine-sim likewise."""

from pathlib import Path

from kvnode import images

ROOT = Path(__file__).resolve().parents[3]
REGISTRY, TAG = "localhost", "dev"


def names() -> dict[str, Path]:
    """Each with its Dockerfile."""
    found = sorted((ROOT / "deploy" / "images").glob("*/Dockerfile"))
    return {f"{REGISTRY}/kvpool/{dockerfile.parent.name}:{TAG}": dockerfile for dockerfile in found}


def archives() -> list[Path]:
    """Those not in the cache are built, half a minute each: with a way out, which a node's own network has not.

    Errors: NodeFailure.
    """
    return [images.build(dockerfile, name, context=ROOT) for name, dockerfile in names().items()]
