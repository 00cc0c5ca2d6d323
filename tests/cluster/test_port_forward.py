"""The command's port-forward through a real API server and a real kubelet."""

import json

import aiohttp
from eventually import eventually
from kvpool_cli.kubectl_forward import forwarded
from kvpool_cli.router_facts import read_router
from kvpool_operator.cluster.kube import connect
from kvpool_operator.cluster.seam import POD, Ref, Unavailable
from pool_facts import decision, facts, worker

SERVER = """
import http.server, os
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        known = self.headers["X-Kvpool-Token"] == "secret"
        body = os.environ["STATE" if self.path == "/state" else "DECISIONS"].encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", 8001), Answer).serve_forever()
"""


async def test_a_routers_admin_port_is_read_through_a_forward(kubectl, python_image):
    state = facts(worker(), decisions=()).state
    assert state is not None
    decisions = [decision().model_dump(mode="json", by_alias=True)] * 100
    env = {
        "STATE": state.model_dump_json(by_alias=True),
        "DECISIONS": json.dumps({"router": "r", "decisions": decisions}),
    }
    container = {
        "name": "router",
        "image": python_image,
        "command": ["python3", "-c", SERVER],
        "env": [{"name": name, "value": value} for name, value in env.items()],
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "router"}, "spec": spec})
    kubectl("wait", "--for=condition=Ready", "pod/router", "--timeout=60s")
    pod = Ref(POD, kubectl.namespace, "router")
    async with connect(kubectl.kubeconfig) as cluster, aiohttp.ClientSession() as session:
        async with forwarded(cluster.api, pod, 8001) as forward:

            async def decisions_told() -> int:
                found = await read_router(session, forward.url, "secret")
                return found.state == state and len(found.decisions)

            await eventually(decisions_told)
            assert await decisions_told() == 100
            assert "401" in ((await read_router(session, forward.url, "guess")).trouble or "")
        async with forwarded(cluster.api, pod, 8002) as forward:
            assert (await read_router(session, forward.url, "secret")).state is None
            assert isinstance(forward.trouble, Unavailable)
            assert "8002" in str(forward.trouble)
