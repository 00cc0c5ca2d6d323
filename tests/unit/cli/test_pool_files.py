import pytest
import yaml
from kvpool_api.crd import custom_resource_definition
from kvpool_api.validation import Admission
from kvpool_cli.errors import INVALID_INPUT, UserError
from kvpool_cli.up.manifests import read_pools

ADMISSION = Admission(custom_resource_definition())


def pool(name="qwen", **spec):
    return {
        "apiVersion": "kvpool.dev/v1alpha1",
        "kind": "InferencePool",
        "metadata": {"name": name},
        "spec": {"model": {"name": "m"}, **spec},
    }


@pytest.fixture
def file(tmp_path):
    def write(*documents):
        path = tmp_path / "pools.yaml"
        path.write_text(documents[0] if isinstance(documents[0], str) else yaml.safe_dump_all(documents))
        return path

    return write


def refusal(path):
    with pytest.raises(UserError) as caught:
        read_pools(path, ADMISSION)
    assert caught.value.exit_code == INVALID_INPUT
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_all_pools_of_a_file_are_read_into_the_default_namespace(file):
    pools = read_pools(file(pool("one"), pool("two")), ADMISSION)
    assert [(p["metadata"]["name"], p["metadata"]["namespace"]) for p in pools] == [
        ("one", "default"),
        ("two", "default"),
    ]


def test_a_pool_that_breaks_the_crd_is_refused_in_the_api_servers_words(file):
    text = refusal(file(pool(replicas=-1)))
    assert 'The InferencePool "qwen" is invalid: spec.replicas: Invalid value: -1' in text


def test_every_fault_of_every_document_is_named(file):
    text = refusal(file(pool("one", replicas=-1), pool("two", nonsense=1)))
    assert "spec.replicas" in text
    assert "nonsense" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "line 1"),
        ("just words", "is a text, not a map"),
        ("", "holds no object"),
        ("kind: ConfigMap", "kind ConfigMap: `kvpool up` runs InferencePools of inferencepools.kvpool.dev only"),
        ("metadata: {name: x}", "kind: Invalid value"),
        ("metadata: 17", "kind: Invalid value"),
        ("apiVersion: kvpool.dev/v1alpha1\nkind: InferencePool\nmetadata: 17\nspec: {}", "metadata: Invalid value"),
    ],
)
def test_a_file_that_holds_no_pool_is_refused_with_what_is_wrong(file, text, words):
    assert words in refusal(file(text))


def test_a_name_that_stands_twice_is_refused(file):
    assert "pool qwen stands in it 2 times" in refusal(file(pool(), pool()))


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refusal(tmp_path / "binary.yaml")
