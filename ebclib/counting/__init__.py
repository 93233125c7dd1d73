"""A trained model as a person uses it: images in; counts, maps, points, and how sure they are, out.

>>> from ebclib.counting import CrowdCounter
>>> CrowdCounter().count("square.jpg")  # doctest: +SKIP
<square.jpg: 132 people (90 %: 110 to 158)>
"""

from ebclib.counting.counter import CrowdCounter
from ebclib.counting.files import count_files
from ebclib.counting.result import Count, count_regions, read_regions, results_frame

__all__ = ["Count", "CrowdCounter", "count_files", "count_regions", "read_regions", "results_frame"]
