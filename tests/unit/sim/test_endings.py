"""Where answers end, and what streams hold back until it is certain."""

from hypothesis import given
from hypothesis import strategies as st
from kvpool_sim.endings import Ending, Telling, ending_of
from kvpool_sim.sampling import Sampling

WORDS = st.lists(st.text("abc ", min_size=1, max_size=4), min_size=1, max_size=12)
STOPS = st.lists(st.text("abc ", min_size=1, max_size=5), max_size=3).map(tuple)


def saying(words):
    return lambda place: (place, words[place % len(words)])


def told(words, ending, sampling):
    """Everything that a stream of so many tokens tells."""
    telling = Telling(ending, sampling)
    return [telling.told_by(word, is_last=place + 1 == len(words)) for place, word in enumerate(words)]


@given(WORDS, STOPS, st.booleans())
def test_a_stream_tells_the_text_up_to_the_stop_string_and_nothing_that_it_takes_back(words, stop, keeps):
    sampling = Sampling(stop=stop, include_stop_str_in_output=keeps, ignore_eos=True)
    ending = ending_of(saying(words), sampling, 100, len(words))
    said = words[: ending.after]
    text = "".join(said)
    found = "".join(told(said, ending, sampling))
    assert found == text[: ending.characters]
    if ending.reason is None:
        assert not any(each in text for each in stop)
    elif keeps:
        assert found.endswith(ending.reason)
    else:
        assert not any(each in found for each in stop)
        assert text[len(found) :].startswith(ending.reason)


@given(WORDS, STOPS, st.integers(0, 12))
def test_nothing_ends_an_answer_before_its_least_length(words, stop, least):
    sampling = Sampling(stop=stop, stop_token_ids=frozenset({1, 3}), min_tokens=least)
    ending = ending_of(saying(words), sampling, 2, 40)
    assert ending.after is not None
    assert ending.after >= least


def test_the_model_ends_by_itself_unless_it_is_told_not_to():
    assert ending_of(saying(["a"]), Sampling(), 7, 40) == Ending(7)
    assert ending_of(saying(["a"]), Sampling(ignore_eos=True), 7, 40) == Ending(None)


def test_a_stop_token_is_told_by_its_id_and_not_as_text():
    words = ["one", " two", " three"]
    sampling = Sampling(stop_token_ids=frozenset({1}))
    ending = ending_of(saying(words), sampling, 100, 40)
    assert ending == Ending(2, 1, 3)
    assert told(words[:2], ending, sampling) == ["one", ""]
    kept = Sampling(stop_token_ids=frozenset({1}), include_stop_str_in_output=True)
    assert ending_of(saying(words), kept, 100, 40) == Ending(2, 1, 7)


def test_a_stop_string_is_found_across_words():
    assert ending_of(saying(["ab", "cd", "ef"]), Sampling(stop=("bcde",)), 100, 40) == Ending(3, "bcde", 1)


def test_as_much_is_held_back_as_may_become_a_stop_string():
    words = ["abc", "def", "ghi"]
    sampling = Sampling(stop=("zzzz",), ignore_eos=True)
    assert told(words, Ending(None), sampling) == ["", "abc", "defghi"]


def test_of_several_stop_strings_the_one_that_is_complete_first_ends_the_answer():
    assert ending_of(saying(["abcd"]), Sampling(stop=("cd", "bc")), 100, 40) == Ending(1, "bc", 1)


def test_a_stop_string_wholly_before_the_least_length_ends_nothing():
    words = ["ab", "cd", "ef", "xyz"]
    assert ending_of(saying(words), Sampling(stop=("b", "f"), min_tokens=2), 100, 40) == Ending(3, "f", 5)
