"""Counts to classes, and what each class stands for."""

from ebclib.bins.binning import Bin, Bins, fine, make_bins

__all__ = ["Bin", "Bins", "fine", "make_bins"]
