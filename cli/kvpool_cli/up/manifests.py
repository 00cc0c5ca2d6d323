"""From a YAML file to pools that the API accepts; every document is judged before anything is started."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from kvpool_api.meta import POOL_RESOURCE
from kvpool_api.validation import admit
from kvpool_operator.cluster.seam import Manifest, Refused

from kvpool_cli.errors import UserError

DEFAULT_NAMESPACE = "default"


def read_pools(path: Path) -> tuple[Manifest, ...]:
    """The pools of all documents. Raises UserError with every fault of every document, in the CRD's words."""
    documents = tuple(_documents(path))
    if not documents:
        raise UserError(f"{path}: holds no object; write an InferencePool of {POOL_RESOURCE} into it")
    faults = [fault for document in documents for fault in _faults(document)] or list(_repeated(documents))
    if faults:
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults))
    return documents


def _documents(path: Path) -> Iterator[Manifest]:
    try:
        parsed = [document for document in yaml.safe_load_all(path.read_text()) if document is not None]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    for number, document in enumerate(parsed, start=1):
        if not isinstance(document, dict):
            raise UserError(f"{path}: document {number} is no object but {type(document).__name__}")
        yield _in_a_namespace(document)


def _in_a_namespace(document: Manifest) -> Manifest:
    metadata = document.get("metadata")
    return (
        {**document, "metadata": {"namespace": DEFAULT_NAMESPACE, **metadata}}
        if isinstance(metadata, dict)
        else document
    )


def _faults(document: Manifest) -> Iterator[str]:
    if document.get("kind") != "InferencePool":
        yield (
            f"kind {document.get('kind')!r}: `kvpool up` runs InferencePools of {POOL_RESOURCE} only; "
            "remove the object, or apply the file to a cluster"
        )
        return
    try:
        admit(document, None)
    except (Refused, ValueError) as refused:
        yield from str(refused).splitlines()


def _repeated(documents: Sequence[Manifest]) -> Iterator[str]:
    names = Counter(
        str(document["metadata"]["name"]) for document in documents if isinstance(document["metadata"], dict)
    )
    for name, count in names.items():
        if count > 1:
            yield f"pool {name!r} stands in it {count} times; give each pool a name of its own"
