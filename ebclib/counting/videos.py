"""People in a video: its frames every so often, and their counts over time.

>>> from ebclib.counting.videos import count_video, frames
>>> counts = count_video(counter, "square.mp4", "square.csv", every_s=2)      # doctest: +SKIP
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from av import VideoFrame

    from ebclib.counting.counter import CrowdCounter

VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".mts"})
"""Endings of files that are taken for videos, in lower case."""

COLUMNS = ("seconds", "count", "lower", "upper")


def frames(path: str | Path, every_s: float = 1.0) -> Iterator[tuple[float, np.ndarray]]:
    """A video's frames, one in every ``every_s`` seconds, in the memory of one.

    Of each stretch of ``every_s`` seconds the first frame is taken, by the times the file gives its
    frames and not by their number; so a varying frame rate is followed, and a stretch without a frame
    of its own gives none. Images come upright, as a player shows them.

    Parameters
    ----------
    path : any file that FFmpeg reads (mp4, mov, mkv, avi, webm, gif …)
    every_s : seconds from one frame to the next; 0 takes every frame

    Yields
    ------
    seconds, image : since the video's first frame; uint8 (H, W, 3), RGB

    Raises
    ------
    FileNotFoundError : no such file
    ValueError : no video, no image in it, or damaged; what came before has been yielded
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no video {path}.")
    if not (math.isfinite(every_s) and every_s >= 0):
        raise ValueError(f"every_s is {every_s}; give seconds from 0, such as 1 or 0.5.")
    return _frames(path, every_s)


def _frames(path: Path, every_s: float) -> Iterator[tuple[float, np.ndarray]]:
    import av

    seconds, start, stretch = 0.0, None, -1
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has sound or text, but no images to count in.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if frame.time is None:  # some raw streams give none
                    raise ValueError(
                        f"{path} does not say when its frames are shown. Put it into a container that "
                        "does: `ffmpeg -i FILE out.mp4`."
                    )
                start = frame.time if start is None else start
                seconds = frame.time - start
                now = math.floor(seconds / every_s + 1e-6) if every_s else stretch + 1
                if now > stretch:
                    stretch = now
                    yield seconds, _upright(frame)
    except av.error.FFmpegError as problem:
        if start is None:
            raise ValueError(
                f"{path} is no video that FFmpeg can read ({problem.strerror}). Images are counted "
                "by giving their folder."
            ) from problem
        raise ValueError(
            f"{path} is damaged or cut off after {seconds:.1f} s ({problem.strerror})."
        ) from problem
    if start is None:
        raise ValueError(f"{path} holds no frame: an empty or unfinished recording.")


def _upright(frame: VideoFrame) -> np.ndarray:
    """RGB (H, W, 3), turned by quarters as the file's display matrix says."""
    image = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def count_video(
    counter: CrowdCounter,
    path: str | Path,
    out: str | Path,
    every_s: float = 1.0,
    progress: bool = True,
    what: str = "people",
) -> pd.DataFrame:
    """Count a video's frames one after the other, draw the counts over time, and give the rows.

    Rows are written as they come, to ``out`` with `.part` behind it, which becomes ``out`` when the
    video has ended; beside it lies the chart, as PDF and PNG. No image is kept.

    Parameters
    ----------
    path, every_s : as in `frames`, which says what is raised
    out : the CSV; columns seconds, count, lower, upper (the last two empty without intervals)
    what : is counted, for the chart's axis
    """
    from tqdm.auto import tqdm

    out = Path(out)
    found = frames(path, every_s)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    rows: list[tuple[float, ...]] = []
    bar = tqdm(found, desc=Path(path).name, unit="frame", disable=not progress, leave=False)
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        file.flush()
        for seconds, image in bar:
            said = counter.count(image)
            ends = (math.nan if end is None else end for end in (said.lower, said.upper))
            rows.append((seconds, said.count, *ends))
            # nothing for an interval that is not there or reaches everywhere
            writer.writerow([f"{v:.6g}" if math.isfinite(v) else "" for v in rows[-1]])
            file.flush()
        os.fsync(file.fileno())
    part.replace(out)
    counts = pd.DataFrame(rows, columns=list(COLUMNS))
    _draw(counts, out, what)
    return counts


def _draw(counts: pd.DataFrame, out: Path, what: str) -> None:
    import matplotlib.pyplot as plt

    from ebclib.plots import plot_over_time
    from ebclib.plots.style import use_style

    with plt.rc_context():
        use_style()
        figure = plot_over_time(counts, what).figure
        for kind in (".pdf", ".png"):
            figure.savefig(out.with_suffix(kind))
        plt.close(figure)
