"""Which versions the node is made of: the committed go.mod files say it, nothing else does."""

import hashlib
import re
from pathlib import Path

MODULES = Path(__file__).resolve().parent.parent / "go"


def required(folder: str, module: str) -> str:
    """The version of `module` that `<MODULES>/<folder>/go.mod` requires, without its leading v."""
    found = re.search(rf"^(?:require )?\s*{re.escape(module)} v(\S+)", (MODULES / folder / "go.mod").read_text(), re.M)
    if found is None:
        raise LookupError(f"{MODULES / folder / 'go.mod'} requires no {module}")
    return found[1]


def kubernetes() -> str:
    return required("kubernetes", "k8s.io/kubernetes")


def digest_of(folder: str) -> str:
    """A name for what a module folder is built from: its files' names and contents."""
    whole = hashlib.sha256()
    for path in sorted((MODULES / folder).iterdir()):
        whole.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()
