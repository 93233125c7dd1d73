"""What a file of weights says about itself, so that it can be used alone."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ebclib import data
from ebclib.config import Config
from ebclib.data.splits import LEAST_SIDE
from ebclib.data.training_set import LEAST_CALIBRATING, TrainingStats
from ebclib.evaluation import COVERAGE
from ebclib.runs import Run, write_whole

KEY = "ebclib"
"""The entry of the weights' metadata that holds `ModelInfo`, as JSON; one key, so that equal ones are
equal files."""

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What counting needs beside the weights."""

    config: Config  # every parameter of the run, its name among them
    noun: tuple[str, str] = ("person", "people")  # what is counted, (singular, plural)
    least_side: int = 1  # pixels; images are grown and shrunk to these as its data set's were
    longest_side: int | None = None
    # deviations from the count to either end of a 90 % interval (`evaluation.conformal_factor`);
    # None: not calibrated
    interval_factor: float | None = None
    held_out_images: int | None = None  # images that factor comes from
    coverage: float = COVERAGE  # the share of images that the interval is made to hold
    # statistics of its training images; None: not known
    training_stats: TrainingStats | None = None
    # where its training images are from, on what terms, and the weights it began with; for people
    origin: str = ""

    @classmethod
    def made(
        cls, config: Config, factor: float, held_out_images: int | None, **more: Any
    ) -> ModelInfo:
        """Of a run as it is evaluated; ``factor`` is of `evaluation.conformal_factor`."""
        dataset = data.describe(config.dataset, multiples_px=config.multiples_px)
        return cls(
            config=config,
            noun=dataset.noun,
            least_side=dataset.least_side,
            longest_side=dataset.longest_side,
            interval_factor=factor if math.isfinite(factor) else None,
            held_out_images=held_out_images,
            **more,
        )

    @classmethod
    def of_run(cls, run: Run) -> ModelInfo:
        """What the files beside older weights say."""
        metrics = run.metrics if run.is_finished else {}
        factor = metrics.get("interval_factor")
        try:
            return cls.made(run.config, factor or math.inf, metrics.get("held_out_images"))
        except ValueError:  # somebody's own folder, which is not here
            return cls(config=run.config, interval_factor=factor, least_side=LEAST_SIDE)

    def to_json(self) -> str:
        """As text; `from_json` reads it."""
        values = {**asdict(self), "config": self.config.to_dict(), "format": FORMAT}
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, source: Path | str = "the text") -> ModelInfo:
        """From its text; ValueError that names ``source`` if it is none of this version."""
        try:
            values = json.loads(text)
            version = values.pop("format")
            if version != FORMAT:
                raise ValueError(f"format {version}, and this version reads {FORMAT}")
            values["config"] = Config.from_dict(values["config"])
            values["noun"] = tuple(values["noun"])
            stats = values.setdefault("training_stats", values.pop("familiar", None))
            if stats is not None:  # as older weights have it: familiar, pictures, crowding
                images = stats.get("images", stats.get("pictures"))
                limits = {
                    n.replace("crowding", "peak_density"): tuple(v)
                    for n, v in stats["limits"].items()
                }
                values["training_stats"] = TrainingStats(images, limits)
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as problem:
            raise ValueError(
                f"{source}: the metadata inside were written by another version of ebclib ({problem}). "
                "`ebc evaluate` of its run writes it anew."
            ) from problem


def too_few(held_out_images: int | None) -> str:
    """Why a model has no interval (`evaluation.conformal_factor`).

    >>> too_few(1)
    'one of 90 % needs 9 validation images or more, and there was 1'
    """
    if held_out_images is None:
        return "`ebc evaluate` of its run calibrates it"
    return (
        f"one of {100 * COVERAGE:.0f} % needs {LEAST_CALIBRATING} validation images or more, and "
        f"there {'was' if held_out_images == 1 else 'were'} {held_out_images}"
    )


def write_info(weights: Path, info: ModelInfo) -> None:
    """Put metadata into a file of weights; the weights stay as they are."""
    state = load_file(weights)
    metadata = {KEY: info.to_json()}
    write_whole(weights, lambda part: save_file(state, part, metadata=metadata))


def export_weights(run: Run, path: str | Path, half: bool = False) -> Path:
    """Write an evaluated run's weights with their metadata as one file, which counts without the run.

    A file that is there is replaced. With ``half`` convolutions and projections are in 16 bits; what
    normalises (a row of numbers) stays in 32. FileNotFoundError for a run without weights.
    """
    metadata = {KEY: read_info(run.weights).to_json()}
    state = {
        name: value.half() if half and value.is_floating_point() and value.ndim > 1 else value
        for name, value in load_file(run.weights).items()
    }
    path = Path(path)
    write_whole(path, lambda part: save_file(state, part, metadata=metadata))
    return path


def read_info(weights: Path) -> ModelInfo:
    """The metadata in a file of weights, or else what the run's files beside it say.

    Raises
    ------
    FileNotFoundError : no such file
    ValueError : no safetensors, or weights without metadata that lie in no run's folder
    """
    weights = Path(weights)
    if not weights.is_file():
        raise FileNotFoundError(f"{weights} is not there: a file of weights is expected.")
    try:
        with safe_open(weights, "pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as problem:
        raise ValueError(
            f"{weights} holds no weights as a run writes them (model.safetensors): {problem}."
        ) from problem
    if KEY in metadata:
        return ModelInfo.from_json(metadata[KEY], weights)
    if (weights.parent / "config.json").is_file():
        return ModelInfo.of_run(Run(weights.parent))
    raise ValueError(
        f"{weights} does not say what model it belongs to. `ebc evaluate` of its run writes that into "
        "the file; or give the run's folder, where config.json lies beside it."
    )
