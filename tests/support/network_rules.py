"""May a peer reach a port? NetworkPolicies as Kubernetes reads them, for the parts that ours use."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Peer:
    """A Pod: its namespace's name and its labels."""

    namespace: str
    labels: dict = field(default_factory=dict)


def may(policies, peer: Peer, target: Peer, port: int) -> bool:
    """A Pod that no policy selects is open to all; of those that select it, one rule that fits is enough."""
    chosen = [policy for policy in policies if _selects(policy, target)]
    rules = [rule for policy in chosen for rule in policy["spec"].get("ingress", [])]
    return not chosen or any(_port_fits(rule, port) and _peer_fits(rule, peer, target) for rule in rules)


def _selects(policy, target: Peer) -> bool:
    same_place = policy["metadata"]["namespace"] == target.namespace
    return same_place and _labels_fit(policy["spec"]["podSelector"], target.labels)


def _port_fits(rule, port: int) -> bool:
    return "ports" not in rule or any(each["port"] == port for each in rule["ports"])


def _peer_fits(rule, peer: Peer, target: Peer) -> bool:
    return "from" not in rule or any(_one_peer_fits(each, peer, target) for each in rule["from"])


def _one_peer_fits(each, peer: Peer, target: Peer) -> bool:
    assert set(each) <= {"podSelector", "namespaceSelector"}, "a kind of peer that this does not know"
    namespace = {"kubernetes.io/metadata.name": peer.namespace}
    in_place = (
        _labels_fit(each["namespaceSelector"], namespace)
        if "namespaceSelector" in each
        else peer.namespace == target.namespace
    )
    return in_place and _labels_fit(each.get("podSelector", {}), peer.labels)


def _labels_fit(selector, labels) -> bool:
    assert set(selector) <= {"matchLabels"}, "a kind of selector that this does not know"
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
