"""Bins to sentences, in the paper's wording (Sec. III-B)."""

from __future__ import annotations

from num2words import num2words

from .bins import Bin, Bins


def sentence(item: Bin, noun: str = "person", plural: str = "people") -> str:
    """What one bin says.

    Parameters
    ----------
    item : the bin
    noun, plural : the object, in words

    >>> sentence(Bin(3, 3)), sentence(Bin(4, None))
    ('There are three people.', 'There are more than four people.')
    """
    low = num2words(item.low)
    if item.high is None:
        return f"There are more than {low} {noun if item.low == 1 else plural}."
    if item.high > item.low:
        return f"There are between {low} and {num2words(item.high)} {plural}."
    if item.low == 0:
        return f"There is no {noun}."
    if item.low == 1:
        return f"There is one {noun}."
    return f"There are {low} {plural}."


def sentences(bins: Bins, noun: str = "person", plural: str = "people") -> list[str]:
    """One sentence for each of the N bins, in order."""
    return [sentence(item, noun, plural) for item in bins.items]
