"""The judge of rights judges right."""

import json

import pytest
from verbs_used import compared, granted

ME = "system:serviceaccount:s:me"
RULES = [{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "patch"]}]


def entry(verb: str, resource: str = "pods", user: str = ME, code: int = 200, **about: str) -> str:
    told = {"verb": verb, "user": {"username": user}, "responseStatus": {"code": code}}
    return json.dumps({**told, "objectRef": {"resource": resource, **about}}) + "\n"


@pytest.fixture
def log(tmp_path):
    return tmp_path / "audit.log"


def test_what_is_used_and_granted_is_neither_missing_nor_to_spare(log):
    log.write_text(entry("get") + entry("patch") + entry("get", subresource="log") + entry("patch", subresource="log"))
    found = compared([log], ME, RULES)
    assert (found.missing, found.to_spare) == (set(), set())


def test_what_is_never_used_is_to_spare_unless_it_is_exempt(log):
    log.write_text(entry("get") + entry("patch") + entry("get", subresource="log"))
    spare = ("", "pods/log", "patch")
    assert compared([log], ME, RULES).to_spare == {spare}
    assert compared([log], ME, RULES, {spare}).to_spare == set()


def test_an_apply_that_made_something_needs_the_right_to_create(log):
    log.write_text(entry("patch", code=201))
    assert compared([log], ME, RULES).missing == {("", "pods", "create")}


def test_what_was_refused_is_missing(log):
    log.write_text(entry("list", code=403, apiGroup="apps", resource="deployments"))
    assert compared([log], ME, RULES).missing == {("apps", "deployments", "list")}


def test_others_requests_paths_and_half_a_line_say_nothing(log):
    path = json.dumps({"verb": "get", "user": {"username": ME}, "requestURI": "/apis"}) + "\n"
    log.write_text(entry("delete", user="system:serviceaccount:s:me-not") + path + entry("delete")[:-9])
    assert compared([log], ME, RULES).missing == set()


def test_a_rule_with_a_star_is_no_rule():
    with pytest.raises(AssertionError):
        granted([{"apiGroups": ["*"], "resources": ["pods"], "verbs": ["get"]}])


def test_what_is_used_on_any_of_several_servers_is_used(log, tmp_path):
    other = tmp_path / "other.log"
    log.write_text(entry("get") + entry("patch") + entry("get", subresource="log"))
    other.write_text(entry("patch", subresource="log"))
    assert compared([log, other], ME, RULES).to_spare == set()
