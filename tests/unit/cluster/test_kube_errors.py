"""What an API server answers, in its own words (1.37.2), and what it means here."""

import json

import pytest
from api_front import status
from kvpool_operator.cluster.kube.errors import Answer, NotNow, error_of
from kvpool_operator.cluster.seam import (
    AlreadyExists,
    Expired,
    FieldConflict,
    Forbidden,
    NamespaceEnding,
    NotFound,
    Refused,
    Stale,
    Unauthorized,
    Unavailable,
)


def error(code, message="words", *, reason="", causes=(), header=None, **details):
    return error_of(Answer(code, json.dumps(status(code, message, reason, causes, **details)).encode(), header))


@pytest.mark.parametrize(
    ("code", "reason", "causes", "kind"),
    [
        (400, "BadRequest", (), Refused),
        (401, "Unauthorized", (), Unauthorized),
        (403, "Forbidden", (), Refused),
        (403, "Forbidden", ("NamespaceTerminating",), NamespaceEnding),
        (404, "NotFound", (), NotFound),
        (408, "Timeout", (), NotNow),
        (409, "AlreadyExists", (), AlreadyExists),
        (409, "Conflict", (), Stale),
        (409, "Conflict", ("FieldManagerConflict", "FieldManagerConflict"), FieldConflict),
        (410, "Expired", (), Expired),
        (413, "RequestEntityTooLarge", (), Refused),
        (415, "UnsupportedMediaType", (), Refused),
        (422, "Invalid", ("FieldValueInvalid",), Refused),
        (429, "TooManyRequests", (), NotNow),
        (500, "InternalError", (), NotNow),
        (502, "", (), NotNow),
        (503, "ServiceUnavailable", (), NotNow),
        (504, "Timeout", (), NotNow),
    ],
)
def test_each_answer_has_its_meaning_and_keeps_the_servers_words(code, reason, causes, kind):
    found = error(code, "the server's words", reason=reason, causes=causes)
    assert type(found) is kind
    assert "the server's words" in str(found)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            'pods is forbidden: User "system:serviceaccount:kvpool-system:kvpool-operator" cannot list resource "pods" '
            'in API group "" in the namespace "team-a"',
            "system:serviceaccount:kvpool-system:kvpool-operator may not list pods in namespace team-a; "
            "grant it in the operator's Role or ClusterRole",
        ),
        (
            'inferencepools.kvpool.dev "p" is forbidden: User "jane" cannot patch resource "inferencepools/status" in '
            'API group "kvpool.dev" at the cluster scope',
            "jane may not patch inferencepools/status.kvpool.dev in all namespaces; ",
        ),
    ],
)
def test_a_lacking_permission_is_named_with_its_verb_and_resource(words, told):
    found = error(403, words, reason="Forbidden")
    assert isinstance(found, Forbidden)
    assert str(found).startswith(told)
    assert words in str(found)


def test_a_quota_and_a_policy_are_no_lack_of_permission():
    for words in (
        'pods "p" is forbidden: exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2',
        'pods "p" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
    ):
        found = error(403, words, reason="Forbidden")
        assert type(found) is Refused
        assert str(found) == words


def test_an_apply_that_does_not_fit_the_schema_is_refused_though_the_server_takes_the_blame():
    words = "failed to create typed patch object (default/p; kvpool.dev/v1alpha1, Kind=InferencePool): .spec.nonsense: "
    found = error(500, f"{words}field not declared in schema")
    assert type(found) is Refused


def test_an_apply_with_another_uid_is_no_fault_of_what_was_applied():
    """Its uid is a precondition; the server says so only by calling it immutable."""
    cause = {"reason": "FieldValueInvalid", "message": "field is immutable", "field": "metadata.uid"}
    words = 'ConfigMap "a" is invalid: metadata.uid: Invalid value: "another": field is immutable'
    found = error_of(Answer(422, json.dumps({"message": words, "details": {"causes": [cause]}}).encode()))
    assert type(found) is Stale
    assert str(found) == words


def test_a_quota_that_is_not_counted_yet_only_has_to_wait():
    words = 'pods "p" is forbidden: status unknown for quota: few, resources: pods'
    assert type(error(403, words, reason="Forbidden")) is NotNow


@pytest.mark.parametrize(
    ("header", "details", "wait_s"),
    [
        ("3", {}, 3.0),
        ("3", {"retryAfterSeconds": 7}, 3.0),
        (None, {"retryAfterSeconds": 7}, 7.0),
        (None, {}, None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", {}, None),
        ("-1", {}, 0.0),
    ],
)
def test_how_long_the_server_wants_to_be_left_alone_is_kept(header, details, wait_s):
    found = error(429, header=header, **details)
    assert isinstance(found, Unavailable)
    assert found.retry_after_s == wait_s


def test_words_of_a_proxy_are_quoted_as_far_as_they_are_short():
    found = error_of(Answer(502, b"<html>Bad Gateway</html>" * 100))
    assert str(found).startswith("the API server answered 502: <html>Bad Gateway</html>")
    assert len(str(found)) < 400
    assert str(error_of(Answer(418, b""))) == "the API server answered 418"


def test_a_kind_that_the_server_does_not_know_points_to_the_definition():
    for body in (b"404 page not found", json.dumps(status(404, "the server could not find the requested resource"))):
        found = error_of(Answer(404, body if isinstance(body, bytes) else body.encode()))
        assert isinstance(found, NotFound)
        assert "is the CustomResourceDefinition installed?" in str(found)
