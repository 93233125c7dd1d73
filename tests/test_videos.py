"""Frames of videos drawn here, at the times their files give them, and counts over time."""

import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ebclib.counting.files import count_video
from ebclib.counting.sources import frames
from ebclib.plots import plot_over_time
from ebclib.synthetic import SyntheticSplit

SIZE = (48, 64)  # H, W


def write(path: Path, times: list[float], images: list[np.ndarray] | None = None) -> Path:
    """A video whose k-th frame is shown at ``times[k]`` seconds; without images a grey of 2 k."""
    milli = Fraction(1, 1000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = images[0].shape[:2] if images else SIZE
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        stream.codec_context.time_base = milli
        for number, time in enumerate(times):
            grey = np.full((*SIZE, 3), 2 * number % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(images[number] if images else grey, "rgb24")
            frame.pts, frame.time_base = round(time * 1000), milli
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def seconds(path: Path, every_s: float) -> list[float]:
    return [round(time, 3) for time, _ in frames(path, every_s)]


def test_a_frame_every_second_at_12_and_a_half_frames_a_second(tmp_path):
    path = write(tmp_path / "a.mkv", [k / 12.5 for k in range(50)])
    assert seconds(path, 1) == [0, 1.04, 2, 3.04], "the first frame of each second"
    assert seconds(path, 0.4) == [round(0.4 * k, 3) for k in range(10)]
    assert seconds(path, 0) == [round(0.08 * k, 3) for k in range(50)]
    found = [(image.shape, image.mean()) for _, image in frames(path, 1)]
    assert [shape for shape, _ in found] == [(*SIZE, 3)] * 4
    assert [mean for _, mean in found] == pytest.approx([0, 26, 50, 76], abs=2), "those frames"


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_a_varying_frame_rate_is_followed(tmp_path, kind):
    path = write(tmp_path / f"a.{kind}", [0, 0.1, 0.2, 1.5, 1.6, 4.0, 4.05, 4.9])
    assert seconds(path, 1) == [0, 1.5, 4]
    assert seconds(path, 0.5) == [0, 1.5, 4, 4.9]


def test_the_first_frame_is_at_0_wherever_the_file_begins(tmp_path):
    path = write(tmp_path / "a.mkv", [10 + k / 10 for k in range(20)])
    assert seconds(path, 1) == [0, 1]


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((1, 0, 0, 1), (0, 0)),
        ((0, 1, -1, 0), (0, 1)),  # filmed upright: a quarter to the right
        ((-1, 0, 0, -1), (1, 1)),
        ((0, -1, 1, 0), (1, 0)),
    ],
)
def test_images_come_upright(tmp_path, matrix, corner):
    """The matrix of ISO 14496-12's `tkhd` box, as phones write it; the stored top left is bright."""
    image = np.zeros((*SIZE, 3), np.uint8)
    image[: SIZE[0] // 2, : SIZE[1] // 2] = 255
    path = write(tmp_path / "a.mp4", [0, 0.1], [image] * 2)
    data = bytearray(path.read_bytes())
    a, b, c, d = (number << 16 for number in matrix)
    at = data.index(b"tkhd") + 4 + 40
    struct.pack_into(">9i", data, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    _, upright = next(frames(path))
    turned = bool(matrix[1])
    assert upright.shape == ((SIZE[1], SIZE[0], 3) if turned else (*SIZE, 3))
    h, w = (side // 2 for side in upright.shape[:2])
    quarters = upright[: 2 * h, : 2 * w].reshape(2, h, 2, w, 3).mean(axis=(1, 3, 4))
    assert np.unravel_index(quarters.argmax(), (2, 2)) == corner


def test_memory_does_not_grow_with_the_video(tmp_path):
    peaks = []
    for number in (60, 240):
        path = write(tmp_path / f"{number}.mkv", [k / 25 for k in range(number)])
        tracemalloc.start()
        assert sum(1 for _ in frames(path, 0)) == number
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2 * SIZE[0] * SIZE[1] * 3, "two frames at the most"


class Dark:
    """A counter of dark pixels, with an interval of a tenth each way, or none."""

    noun = ("person", "people")

    def __init__(self, interval: bool = True) -> None:
        self.interval = interval

    def count(self, image: np.ndarray) -> SimpleNamespace:
        number = float((image.mean(axis=2) < 128).mean() * 100)
        ends = (0.9 * number, 1.1 * number) if self.interval else (None, None)
        return SimpleNamespace(count=number, lower=ends[0], upper=ends[1])


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """A drawn crowd that a camera moves along: three seconds of five frames."""
    crowd = SyntheticSplit("test", size=1)[0].image
    steps = [crowd[40:200, 8 * k : 8 * k + 224] for k in range(15)]
    path = tmp_path_factory.mktemp("videos") / "walk.mp4"
    return write(path, [k / 5 for k in range(15)], [np.ascontiguousarray(s) for s in steps])


def test_a_video_is_counted_into_a_table_and_a_chart(walk, tmp_path):
    out = tmp_path / "new" / "walk.csv"
    counts = count_video(Dark(), walk, out, every_s=0.6, progress=False)
    assert sorted(path.name for path in out.parent.iterdir()) == ["walk.csv", "walk.png"]
    stored = pd.read_csv(out)
    assert stored.columns.tolist() == ["seconds", "count", "lower", "upper"]
    assert stored["seconds"].tolist() == [0, 0.6, 1.2, 1.8, 2.4]
    direct = [Dark().count(image).count for _, image in frames(walk, 0.6)]
    assert stored["count"].tolist() == pytest.approx(direct, rel=1e-5)
    assert len(set(direct)) == 5, "the crowd moves"
    assert stored["upper"].tolist() == pytest.approx((1.1 * counts["count"]).tolist(), rel=1e-5)


def test_without_intervals_their_columns_are_empty(walk, tmp_path):
    count_video(Dark(interval=False), walk, tmp_path / "walk.csv", progress=False)
    assert pd.read_csv(tmp_path / "walk.csv")[["lower", "upper"]].isna().all(axis=None)


def test_what_is_no_video_is_said_so(walk, tmp_path):
    text = tmp_path / "a.mp4"
    text.write_text("not a video at all")
    with pytest.raises(ValueError, match="no video that FFmpeg can read"):
        list(frames(text))
    with pytest.raises(FileNotFoundError, match="No such file"):
        next(frames(tmp_path / "b.mp4"))
    with pytest.raises(ValueError, match="every_s is -1"):
        next(frames(walk, -1))
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(ValueError, match="no images to count in"):
        list(frames(tmp_path / "sound.wav"))


@pytest.mark.parametrize(("last", "unit"), [(90, "s"), (600, "min"), (9000, "h")])
def test_the_time_axis_has_a_unit_that_suits_the_length(last, unit):
    table = pd.DataFrame({"seconds": [0, last], "count": [5, 8], "lower": [4, 7], "upper": [6, 9]})
    ax = plot_over_time(table, "birds")
    assert ax.get_xlabel() == f"Time ({unit})" and ax.get_ylabel() == "Birds counted"
    assert ax.lines[0].get_xdata()[-1] == last / {"s": 1, "min": 60, "h": 3600}[unit]
    plt.close(ax.figure)
