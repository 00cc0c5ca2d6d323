from pathlib import Path

import pytest
from kvpool_api.pool import InferencePool
from kvpool_cli.doubts import doubts, say_doubts
from rich.console import Console


def pool(gpus, **engine):
    spec = {"model": {"name": "m"}, "resources": {"limits": {"nvidia.com/gpu": gpus}}, "engine": engine}
    return InferencePool.model_validate({"metadata": {"name": "qwen"}, "spec": spec})


@pytest.mark.parametrize(("gpus", "ranks"), [(1, 1), (2, 1), ("8", 1), (6, 3), (64, 1)])
def test_a_size_that_divides_the_heads_of_most_models_is_no_matter(gpus, ranks):
    assert list(doubts(pool(gpus, dataParallelSize=ranks))) == []


def test_three_gpus_are_doubted_with_what_would_tell_and_what_fits():
    (line,) = doubts(pool(3))
    assert line.startswith("a tensor parallel size of 3, derived from the GPUs of spec.resources.limits, is no power")
    assert "num_attention_heads" in line
    assert line.endswith("2 or 4 fit most models")


def test_a_size_that_was_asked_for_is_doubted_by_its_own_name():
    (line,) = doubts(pool(6, tensorParallelSize=6))
    assert line.startswith("spec.engine.tensorParallelSize 6 is no power of two")
    assert line.endswith("4 or 8 fit most models")


def test_doubts_are_said_as_warnings_of_the_file_in_one_line_each():
    console = Console(width=40)
    with console.capture() as captured:
        say_doubts(Path("three.yaml"), [pool(3), pool(2), pool(5)], console)
    lines = captured.get().splitlines()
    assert [line[:33] for line in lines] == ["warning: three.yaml: pool qwen: a"] * 2
