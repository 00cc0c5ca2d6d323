"""Who may talk to the API server, by token, and the kubeconfig that says how."""

import json
import os
import secrets
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class User:
    name: str
    groups: tuple[str, ...] = ()


ADMIN = User("admin", ("system:masters",))
CONTROLLER_MANAGER = User("system:kube-controller-manager")
SCHEDULER = User("system:kube-scheduler")
KUBE_PROXY = User("system:kube-proxy")
COREDNS = User("kvpool:coredns")


def node(name: str) -> User:
    return User(f"system:node:{name}", ("system:nodes",))


def grant(folder: Path, server: str, authority: Path, users: tuple[User, ...]) -> dict[User, Path]:
    """Writes `tokens.csv` for the API server and a kubeconfig a user into `folder`, readable by the owner alone."""
    kubeconfigs = {}
    rows = []
    for user in users:
        token = secrets.token_hex(24)
        rows.append(f'{token},{user.name},{user.name},"{",".join(user.groups)}"')
        kubeconfigs[user] = folder / f"{user.name.replace(':', '-')}.kubeconfig"
        private(kubeconfigs[user], _kubeconfig(server, authority, token))
    private(folder / "tokens.csv", "\n".join(rows) + "\n")
    return kubeconfigs


def private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


CONTEXT = "kvpool"


def _kubeconfig(server: str, authority: Path, token: str) -> str:
    """JSON, which every reader of YAML reads."""
    trust = b64encode(authority.read_bytes()).decode()
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": CONTEXT, "cluster": {"server": server, "certificate-authority-data": trust}}],
            "users": [{"name": CONTEXT, "user": {"token": token}}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
            "current-context": CONTEXT,
        },
        indent=1,
    )
