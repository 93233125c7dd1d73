from ebclib.bins import Bin, fine
from ebclib.prompts import sentence, sentences


def test_the_paper_s_sentences_for_blocks_of_8_px():
    assert sentences(fine(4)) == [
        "There is no person.",
        "There is one person.",
        "There are two people.",
        "There are three people.",
        "There are more than four people.",
    ]


def test_ranges_and_other_objects():
    assert sentence(Bin(4, 5)) == "There are between four and five people."
    assert sentence(Bin(0, 0), "car", "cars") == "There is no car."
    assert sentence(Bin(21, 21), "car", "cars") == "There are twenty-one cars."
    assert sentence(Bin(2, 2), "octopus", "octopodes") == "There are two octopodes."


def test_every_sentence_is_its_own():
    for m in (1, 4, 64):
        every = sentences(fine(m))
        assert len(set(every)) == m + 1
        assert all(s.endswith(".") and "  " not in s for s in every)
