"""Which form of content a template wants is read from its syntax tree, as vLLM reads it."""

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from kvpool_router.tokens.content_format import takes_parts

WALKS_X = "{% macro told(x) %}{% for p in x %}{{ p }}{% endfor %}{% endmacro %}"
STRINGS = [
    "{{ messages }}",
    "{% for m in messages %}{{ m.content }}{% endfor %}",
    "{% for m in messages %}{% for c in m.tool_calls %}{{ c }}{% endfor %}{% endfor %}",
    WALKS_X + "{% for m in messages %}{{ told(m.name) }}{% endfor %}",
    "{% macro told(content) %}{% for p in content %}{% endfor %}{% endmacro %}{{ told(tools) }}",
    "{% for m in others %}{% for c in m.content %}{{ c }}{% endfor %}{% endfor %}",
    "{% set pairs = {} %}{% set a, b = messages, 1 %}{% for x, y in messages %}{% endfor %}",
]
PARTS = [
    "{% for m in messages %}{% for c in m.content %}{{ c }}{% endfor %}{% endfor %}",
    "{% for m in messages %}{% for c in m['content'] %}{{ c }}{% endfor %}{% endfor %}",
    "{% for m in messages[1:] %}{% for c in m.content | list %}{{ c }}{% endfor %}{% endfor %}",
    "{% set r = messages %}{% set r = r[1:] %}{% for m in r %}{% for c in m.content %}{% endfor %}{% endfor %}",
    "{% for m in messages %}{% set content = m.content %}{% for c in content %}{{ c }}{% endfor %}{% endfor %}",
    WALKS_X + "{% for m in messages %}{{ told(m.content) }}{% endfor %}",
    WALKS_X + "{% for m in messages %}{{ told(x=m.content) }}{% endfor %}",
]


@pytest.mark.parametrize("template", STRINGS)
def test_a_template_that_prints_content_takes_strings(template: str) -> None:
    assert not takes_parts(ImmutableSandboxedEnvironment(), template)


@pytest.mark.parametrize("template", PARTS)
def test_a_template_that_walks_content_takes_parts(template: str) -> None:
    assert takes_parts(ImmutableSandboxedEnvironment(), template)
