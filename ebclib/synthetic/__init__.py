"""Drawn crowds with exactly known people: the data set that is always there.

`draw` draws one; `SyntheticSplit` is a split of them (`SERIES` names the data sets). An image shows
people in perspective on a plaza, a meadow, a street, sand or in a hall, nearer ones before farther
ones, among things that are round and no heads; a point is the centre of a head.
"""

from ebclib.synthetic.split import SERIES, Series, SyntheticSplit, count_at, draw

__all__ = ["SERIES", "Series", "SyntheticSplit", "count_at", "draw"]
