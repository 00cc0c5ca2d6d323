"""From a YAML file to pools that the API accepts; every document is judged before anything is started."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from kvpool_api.manifest import Manifest, as_text, at
from kvpool_api.meta import POOL_KIND, POOL_RESOURCE
from kvpool_api.validation import Admission, Invalid, UnreadableManifest, load_manifest

from kvpool_cli.errors import UserError
from kvpool_cli.text_file import read_text

DEFAULT_NAMESPACE = "default"


def read_pools(path: Path, admission: Admission) -> tuple[Manifest, ...]:
    """The pools of all documents. Raises UserError with every fault of every document, in the API server's words."""
    documents = tuple(map(_in_a_namespace, _documents(path)))
    if not documents:
        raise UserError(f"{path}: holds no object; write an InferencePool of {POOL_RESOURCE} into it")
    faults = [fault for document in documents for fault in _faults(document, admission)] or list(_repeated(documents))
    if faults:
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults))
    return documents


def _documents(path: Path) -> list[Manifest]:
    try:
        return load_manifest(read_text(path))
    except UnreadableManifest as error:
        raise UserError(f"{path}: {error}") from None


def _in_a_namespace(document: Manifest) -> Manifest:
    """Metadata that is no map is left for admission to refuse."""
    metadata = document.get("metadata", {})
    return (
        {**document, "metadata": {"namespace": DEFAULT_NAMESPACE, **metadata}}
        if isinstance(metadata, dict)
        else document
    )


def _faults(document: Manifest, admission: Admission) -> Iterator[str]:
    kind = document.get("kind")
    if kind not in (POOL_KIND, None):
        yield (
            f"kind {kind}: `kvpool up` runs InferencePools of {POOL_RESOURCE} only; "
            "remove the object, or apply the file to a cluster"
        )
        return
    try:
        admission.admit(document)
    except Invalid as invalid:
        yield str(invalid)


def _repeated(documents: Sequence[Manifest]) -> Iterator[str]:
    names = Counter(as_text(at(document, ("metadata", "name"))) for document in documents)
    for name, count in names.items():
        if count > 1:
            yield f"pool {name} stands in it {count} times; give each pool a name of its own"
