"""Drawn crowds with exactly known people, in perspective, among things that are round and no heads."""

from ebclib.synthetic.split import SERIES, Series, SyntheticSplit, count_at, draw

__all__ = ["SERIES", "Series", "SyntheticSplit", "count_at", "draw"]
