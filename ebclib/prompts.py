"""Bins to sentences, in the paper's wording (Sec. III-B), for people or anything else one can count."""

from __future__ import annotations

from typing import Literal, get_args

from ebclib.bins import Bin, Bins, Interval
from ebclib.config import one_of

Numerals = Literal["words", "digits", "released_digits"]


def sentence(
    item: Bin | Interval,
    noun: str = "person",
    plural: str = "people",
    numerals: Numerals = "words",
) -> str:
    """What one bin says.

    The first interval stands for nobody and says so, though it reaches a little above 0. In digits
    nobody is "0 people": the count, as every other sentence of the set has it.

    Parameters
    ----------
    item : the bin
    noun, plural : what is counted, one of it and several
    numerals : "words" as in the paper, or "digits"; "released_digits" has "0 person" for nobody

    Raises
    ------
    ValueError : a noun without a plural of its own, or unknown numerals

    >>> sentence(Bin(3, 3)), sentence(Bin(4, None))
    ('There are three people.', 'There are more than four people.')
    >>> sentence(Bin(1, 2), "car", "cars", "digits")
    'There are between 1 and 2 cars.'
    """
    one_of("numerals", numerals, get_args(Numerals))
    if not noun.strip() or not plural.strip() or (noun != "person" and plural == "people"):
        raise ValueError(
            f"noun is {noun!r} and plural {plural!r}; give both forms of what is counted, "
            "such as 'car' and 'cars'."
        )

    def number(value: float) -> str:
        if numerals != "words":
            return f"{value:g}"
        from num2words import num2words  # takes a second, which models without text need not spend

        return num2words(value)

    low, high = item.low, item.high
    if low == 0 and (high == 0 or (isinstance(item, Interval) and high is not None)):
        return {
            "words": f"There is no {noun}.",
            "digits": f"There are 0 {plural}.",
            "released_digits": f"There is 0 {noun}.",
        }[numerals]
    if high is None:
        said = f"more than {number(low)}"
    else:
        said = number(low) if high == low else f"between {number(low)} and {number(high)}"
    is_one = low == 1 and high in (1, None)
    return f"There {'is' if is_one else 'are'} {said} {noun if is_one else plural}."


def sentences(
    bins: Bins, noun: str = "person", plural: str = "people", numerals: Numerals = "words"
) -> list[str]:
    """One sentence for each of the N bins, in order; no two are alike.

    >>> from ebclib.bins import coarse
    >>> for text in sentences(coarse(4)):
    ...     print(text)
    There is no person.
    There are between one and two people.
    There are more than three people.
    """
    return [sentence(item, noun, plural, numerals) for item in bins.items]
