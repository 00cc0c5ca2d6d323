"""Just enough of the Kubernetes API to see a node come up: GET and POST by a kubeconfig of ours."""

import json
import ssl
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path


class Api:
    """Errors: OSError when nothing answers or the answer is an error (urllib's HTTPError is one)."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server: str = cluster["server"]
        self._token: str = config["users"][0]["user"]["token"]
        trusted = b64decode(cluster["certificate-authority-data"]).decode()
        handler = urllib.request.HTTPSHandler(context=ssl.create_default_context(cadata=trusted))
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)

    def get(self, path: str) -> bytes:
        return self._ask("GET", path, None)

    def post(self, path: str, body: Mapping[str, object]) -> bytes:
        return self._ask("POST", path, json.dumps(body).encode())

    def answers(self, path: str) -> bool:
        try:
            self.get(path)
        except OSError:
            return False
        return True

    def speaks(self) -> bool:
        """Whether somebody is there at all, ready or not."""
        try:
            self.get("/livez")
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self._server + path, data=body, headers=headers, method=method)  # noqa: S310
        with self._opener.open(request, timeout=5) as answer:
            content: bytes = answer.read()
        return content


def node_is_ready(api: Api, name: str) -> bool:
    try:
        conditions = json.loads(api.get(f"/api/v1/nodes/{name}"))["status"]["conditions"]
    except (OSError, KeyError):
        return False
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
