import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebclib.bins import INTERVALS, POLICIES, Bin, Interval, fine, interval, make_bins
from ebclib.prompts import sentence, sentences


def test_the_paper_s_sentences_for_blocks_of_8_px():
    assert sentences(fine(4)) == [
        "There is no person.",
        "There is one person.",
        "There are two people.",
        "There are three people.",
        "There are more than four people.",
    ]


def test_the_same_in_digits():
    assert sentences(fine(3), numerals="digits") == [
        "There are 0 people.",
        "There is 1 person.",
        "There are 2 people.",
        "There are more than 3 people.",
    ]


def test_ranges_and_other_objects():
    assert sentence(Bin(1, 2)) == "There are between one and two people."
    assert sentence(Bin(4, 5)) == "There are between four and five people."
    assert sentence(Bin(0, 0), "car", "cars") == "There is no car."
    assert sentence(Bin(21, 21), "car", "cars") == "There are twenty-one cars."
    assert sentence(Bin(2, 2), "octopus", "octopodes") == "There are two octopodes."


def test_one_is_singular_also_where_the_bin_is_open():
    assert sentence(Bin(1, None)) == "There is more than one person."
    assert sentence(Bin(1, None), "car", "cars", "digits") == "There is more than 1 car."
    assert sentence(Bin(1, 1), "car", "cars") == "There is one car."


def test_intervals_say_their_edges():
    assert sentence(Interval(0, 0.05)) == "There is no person."
    assert sentence(Interval(0, 0.05), numerals="digits") == "There are 0 people."
    assert (
        sentence(Interval(0.05, 0.5))
        == "There are between zero point zero five and zero point five people."
    )
    between = sentence(Interval(0.928, 4.0), "bird", "birds", "digits")
    assert between == "There are between 0.928 and 4 birds."
    assert sentences(interval(4, 5))[-1] == "There are more than four people."


@given(
    st.sampled_from(sorted(POLICIES)),
    st.integers(1, 64),
    st.sampled_from(["words", "digits"]),
    st.integers(3, 60),
)
def test_every_sentence_of_a_set_is_its_own(policy, m, numerals, intervals):
    bins = make_bins(policy, m, intervals if policy == "interval" else None)
    every = sentences(bins, "duck", "ducks", numerals)
    assert len(set(every)) == len(bins)
    for text in every:
        assert text.startswith(("There is ", "There are ")) and text.endswith(".")
        assert "  " not in text
        assert ("There is" in text) == (" duck." in text)


def test_sets_of_default_size_differ_too():
    assert len(set(sentences(make_bins("interval", 16)))) == INTERVALS


def test_numerals_are_words_or_digits():
    with pytest.raises(ValueError, match="Did you mean 'digits'"):
        sentences(fine(2), numerals="digit")


@pytest.mark.parametrize(("noun", "plural"), [("car", "people"), ("", "cars"), ("car", " ")])
def test_a_noun_needs_both_its_forms(noun, plural):
    with pytest.raises(ValueError, match="give both forms"):
        sentences(fine(4), noun, plural)
