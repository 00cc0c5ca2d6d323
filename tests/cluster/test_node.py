"""The cluster is a real one: what tests of pools rely on."""

import subprocess
import urllib.request

import pytest
from kubectl import Kubectl, Refused, own_namespace, until

SERVER = """
import http.server, sys
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"hello from " + self.path.encode())
        print("asked", self.path, flush=True)
    def log_message(self, *_): pass
print("listening", flush=True)
http.server.HTTPServer(("", 8080), Hello).serve_forever()
"""


def pod(name: str, image: str, script: str, **container: object) -> dict[str, object]:
    runs = {"name": "main", "image": image, "command": ["python3", "-c", script], "imagePullPolicy": "IfNotPresent"}
    spec = {"containers": [runs | container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def serve(kubectl: Kubectl, image: str) -> None:
    """A Pod `web` that answers on 8080, Ready, behind the Service `web` on port 80."""
    probe = {"httpGet": {"port": 8080, "path": "/probe"}, "periodSeconds": 1}
    ports = [{"port": 80, "targetPort": 8080}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    kubectl.apply(
        pod("web", image, SERVER, readinessProbe=probe),
        service | {"spec": {"selector": {"app": "web"}, "ports": ports}},
    )
    kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=60s", timeout_s=70)


def phase_of(kubectl: Kubectl, name: str) -> str:
    return str(kubectl.get("pod", name)["status"]["phase"])


def test_the_node_is_ready(admin):
    conditions = admin.get("nodes")["items"][0]["status"]["conditions"]
    assert {c["type"]: c["status"] for c in conditions}["Ready"] == "True"


def test_a_pod_answers_over_its_service_by_dns_name(kubectl, python_image):
    serve(kubectl, python_image)
    asks = f"""
import urllib.request
for name in ("web", "web.{kubectl.namespace}", "web.{kubectl.namespace}.svc.cluster.local"):
    print(urllib.request.urlopen(f"http://{{name}}/{{name}}", timeout=10).read().decode())
"""
    kubectl.apply(pod("client", python_image, asks))
    until(lambda: phase_of(kubectl, "client") in ("Succeeded", "Failed"), otherwise=lambda: kubectl.events("client"))
    full = f"web.{kubectl.namespace}"
    assert kubectl("logs", "client").splitlines() == [
        "hello from /web",
        f"hello from /{full}",
        f"hello from /{full}.svc.cluster.local",
    ]
    until(lambda: "asked /web\n" in kubectl("logs", "web"))


def test_exec_port_forward_and_the_api_servers_proxies_reach_a_pod(kubectl, python_image):
    serve(kubectl, python_image)
    assert kubectl("exec", "web", "--", "python3", "-c", "print(6 * 7)") == "42\n"
    base = f"/api/v1/namespaces/{kubectl.namespace}"
    assert kubectl("get", "--raw", f"{base}/services/web:80/proxy/by-service") == "hello from /by-service"
    assert kubectl("get", "--raw", f"{base}/pods/web:8080/proxy/by-pod") == "hello from /by-pod"
    with subprocess.Popen(
        kubectl.argv("port-forward", "pod/web", ":8080"), stdout=subprocess.PIPE, text=True
    ) as forward:
        try:
            assert forward.stdout is not None
            local = forward.stdout.readline().split()[2]  # Forwarding from 127.0.0.1:PORT -> 8080
            with urllib.request.urlopen(f"http://{local}/forwarded", timeout=10) as answer:
                assert answer.read() == b"hello from /forwarded"
        finally:
            forward.terminate()


def test_a_pod_over_its_memory_limit_is_killed_for_that(kubectl, python_image):
    limits = {"limits": {"memory": "64Mi"}}
    kubectl.apply(pod("big", python_image, "b = bytearray(300_000_000); print(len(b))", resources=limits))
    until(lambda: phase_of(kubectl, "big") == "Failed", otherwise=lambda: kubectl.events("big"))
    ended = kubectl.get("pod", "big")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_what_a_node_cannot_do_is_said_in_the_schedulers_and_the_kubelets_words(kubectl, python_image):
    greedy = pod("greedy", python_image, "", resources={"limits": {"nvidia.com/gpu": "1"}})
    kubectl.apply(greedy, pod("absent", "localhost/kvpool/no-such-image:1", ""))
    until(lambda: any("Insufficient nvidia.com/gpu" in event for event in kubectl.events("greedy")))
    until(lambda: any("ErrImage" in event or "Failed to pull" in event for event in kubectl.events("absent")))


def test_the_restricted_pod_security_level_is_enforced(admin, python_image):
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    refused = pytest.raises(Refused, match='violates PodSecurity "restricted:latest"')
    with own_namespace(admin, level) as kubectl, refused:
        kubectl.apply(pod("root", python_image, "", securityContext={"runAsUser": 0}))


def test_a_pod_reaches_the_api_server_with_its_own_account_and_no_more(kubectl, python_image):
    asks = """
import ssl, urllib.error, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount"
trust = ssl.create_default_context(cafile=f"{folder}/ca.crt")
headers = {"Authorization": "Bearer " + open(f"{folder}/token").read()}
url = "https://kubernetes.default.svc/api/v1/namespaces/default/pods"
try:
    urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=trust, timeout=10)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""
    kubectl.apply(pod("client", python_image, asks))
    until(lambda: phase_of(kubectl, "client") in ("Succeeded", "Failed"), otherwise=lambda: kubectl.events("client"))
    said = kubectl("logs", "client")
    assert said.startswith("403")
    assert f"system:serviceaccount:{kubectl.namespace}:default" in said
