"""What training costs, measured: parts of a step, transport, crops, precision.

Times are taken in one run and reported as ratios where they are claims, for machines differ and are
seldom quiet. `timing` measures, `step` takes a training step apart, `carrying` compares the solvers of
transport, `crops` the ways to a batch of crops, `counting` those to many counts, `sharing` one training
by several processes.
"""

from ebclib.performance.carrying import compare_solvers, transport_growth
from ebclib.performance.counting import compare_counting
from ebclib.performance.crops import compare_crops, draw_jpegs
from ebclib.performance.sharing import compare_processes
from ebclib.performance.step import compare_precisions, device_share, step_parts, step_summary
from ebclib.performance.timing import race

__all__ = [
    "compare_counting",
    "compare_crops",
    "compare_precisions",
    "compare_processes",
    "compare_solvers",
    "device_share",
    "draw_jpegs",
    "race",
    "step_parts",
    "step_summary",
    "transport_growth",
]
