"""Experiments: many runs, the tables they fill, and what they cost.

`load` reads one of `notebooks/params/`, `train_runs` trains what it lacks by notebook 04, `pivot` makes
a table of what is there, `costs` says what is still to be paid.
"""

from .cost import costs, format_costs, say_duration
from .jobs import train_runs
from .plan import Cell, Experiment, Table, load, names, unfinished
from .results import (
    MISSING,
    against_regression,
    beside,
    claims,
    mean_and_deviation,
    measured,
    paired_difference,
    pivot,
    verdict,
)

__all__ = [
    "MISSING",
    "Cell",
    "Experiment",
    "Table",
    "against_regression",
    "beside",
    "claims",
    "costs",
    "format_costs",
    "load",
    "mean_and_deviation",
    "measured",
    "names",
    "paired_difference",
    "pivot",
    "say_duration",
    "train_runs",
    "unfinished",
    "verdict",
]
