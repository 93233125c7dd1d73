"""Bins to sentences, in the paper's wording (Sec. III-B)."""

from __future__ import annotations

import inflect

from .bins import Bin, Bins


def sentence(item: Bin, noun: str = "person", plural: str | None = None) -> str:
    """What one bin says.

    Parameters
    ----------
    item : the bin
    noun : the object, singular
    plural : its plural; None asks the `inflect` library

    >>> sentence(Bin(3, 3)), sentence(Bin(4, None))
    ('There are three people.', 'There are more than four people.')
    """
    english = inflect.engine()
    many = plural or english.plural_noun(noun) or noun
    words = english.number_to_words
    if item.high is None:
        return f"There are more than {words(item.low)} {many if item.low != 1 else noun}."
    if item.high > item.low:
        return f"There are between {words(item.low)} and {words(item.high)} {many}."
    if item.low == 0:
        return f"There is no {noun}."
    if item.low == 1:
        return f"There is one {noun}."
    return f"There are {words(item.low)} {many}."


def sentences(bins: Bins, noun: str = "person", plural: str | None = None) -> list[str]:
    """One sentence for each of the N bins, in order."""
    return [sentence(item, noun, plural) for item in bins.items]
