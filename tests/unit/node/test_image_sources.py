import pytest
from kvnode import sources

DOCKERFILE = """# syntax
ARG BASE=python:3.13-slim
FROM ${BASE} AS build
COPY --chown=0:0 requirements/runtime.lock pyproject.toml \\
     README.md /src/
RUN --mount=type=bind,source=crds,target=/crds --mount=type=cache,target=/root pip install
ADD ["a file.txt", "/src/"]
FROM ${BASE}
COPY --from=build /venv /venv
"""


def test_what_a_dockerfile_takes_from_its_context_is_found_and_other_stages_are_not():
    assert sources.taken_in(DOCKERFILE) == [
        "requirements/runtime.lock",
        "pyproject.toml",
        "README.md",
        "crds",
        "a file.txt",
    ]


@pytest.fixture
def context(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("a")
    (tmp_path / "notes").write_text("n")
    (tmp_path / "Dockerfile").write_text("FROM base\nCOPY code /code\n")
    return tmp_path


def digest(context, **words):
    return sources.digest(context / "Dockerfile", context, words)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: (c / "code" / "a.py").write_text("b"),
        lambda c: (c / "code" / "b.py").touch(),
        lambda c: (c / "code" / "a.py").rename(c / "code" / "c.py"),
        lambda c: (c / "code" / "a.py").chmod(0o755),
        lambda c: (c / "Dockerfile").write_text("FROM base\nCOPY code /elsewhere\n"),
    ],
)
def test_each_change_of_what_is_taken_in_is_seen(context, change):
    before = digest(context)
    change(context)
    assert digest(context) != before


def test_arguments_count_and_what_is_not_taken_in_does_not(context):
    before = digest(context, BASE="one")
    assert digest(context, BASE="two") != before
    (context / "notes").write_text("changed")
    (context / "code" / "__pycache__").mkdir()
    (context / "code" / "__pycache__" / "a.pyc").touch()
    assert digest(context, BASE="one") == before


def test_the_whole_context_is_taken_in_by_a_dot(context):
    (context / "Dockerfile").write_text("FROM base\nCOPY . /all\n")
    before = digest(context)
    (context / "notes").write_text("changed")
    assert digest(context) != before
