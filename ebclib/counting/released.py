"""One of the authors' released checkpoints as a run, which counts, evaluates and exports as ours do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from ebclib.bins import fine
from ebclib.config import RELEASED, Config, one_of, results_root
from ebclib.encoders.released import network_of, read_released
from ebclib.evaluation.metadata import KEY, ModelInfo
from ebclib.models import released_model
from ebclib.prompts import sentences
from ebclib.runs import Run, provenance, write_json, write_whole

OPEN_BIN = {"sha": 4.29992, "shb": 4.41009, "nwpu": 4.21931, "qnrf": 4.21937, "jhu": 4.24058}
"""What the released code's last bin, [4, ∞), stands for, by data set; the others stand for themselves."""

PROMPTS = {"word": "words", "number": "released_digits"}
"""What prompts are called in a folder's name → `Config.numerals`."""

FOLDER = re.compile(
    r"(?P<model>vgg16|vgg19_ae|csrnet|clip_resnet50|clip_vit_[bl]_\d\d)(_(?P<prompts>word|number))?"
    r"_(?P<input>\d+)_(?P<reduction>\d+)_(?P<truncation>\d+)_(?P<bins>fine|dynamic|coarse)(_fine)?_.+"
)
"""A folder's name: model[_prompts]_input_reduction_truncation_bins_λ_countloss[_aug]."""


def import_released(
    path: str | Path, dataset: str | None = None, prompts: str | None = None
) -> Run:
    """Make a run of a released file, below `results/runs`; one that is there already is returned.

    Parameters
    ----------
    path : ``best_mae.pth`` and the like, ``ckpt.pth``, or ``model.safetensors``
    dataset : what it was trained on, a key of `OPEN_BIN`; None: as the folders' names say
    prompts : ``word`` or ``number``; None: as the folder's name says, or `config.json` beside the file

    Raises
    ------
    FileNotFoundError : no such file
    ValueError : none of the authors' networks, a file that does not fit (what is missing, left over or
        misshapen is named), or something that has to be given

    >>> import_released("nwpu/clip_vit_b_16_word_224_8_4_fine_1.0_dmcount/best_mae_0.pth")
    ... # doctest: +SKIP
    """
    path = Path(path).expanduser().resolve()
    weights = read_released(path)
    network = network_of(weights.tensors)
    if not network:
        raise ValueError(
            f"{path} holds none of the authors' networks (first tensor: {min(weights.tensors)}). "
            "A run of one's own is named with --run."
        )
    said = FOLDER.fullmatch(path.parent.name)
    if said and (said["reduction"], said["truncation"], said["bins"]) != ("8", "4", "fine"):
        raise ValueError(
            f"{path.parent.name}: reduction {said['reduction']}, truncation {said['truncation']}, "
            f"{said['bins']} bins. Released are 8, 4 and fine bins; others cannot be read."
        )
    dataset = dataset or _dataset_of(path)
    one_of("trained-on", dataset, OPEN_BIN)
    has_text = network["model"].startswith("clip_")
    if has_text:
        prompts = prompts or (said and said["prompts"]) or _prompts_beside(path)
        if prompts is None:
            raise ValueError(
                f"{path} does not say which prompts it was trained with, and neither does its folder's "
                "name. Give --prompts word (or number); every file of a ViT is of word."
            )
        network["numerals"] = PROMPTS[one_of("prompts", prompts, PROMPTS)]
    digest = weights.source.rpartition(":")[2]
    name = "-".join(
        ["released", dataset, network["model"], *([prompts] if has_text else []), digest]
    )
    config = Config(
        dataset=dataset,
        max_count=4,
        representatives="windows",
        precision="fp32",
        augmentation="released",
        pretrained=path.name,
        recipe=RELEASED,
        name=name,
        **network,
    )
    run = Run(results_root() / "runs" / name)
    if run.has_weights:
        return run
    bins = fine(4)
    representatives = np.array([*bins.lows[:-1], OPEN_BIN[dataset]])
    texts = sentences(bins, numerals=config.numerals)
    model = released_model(config, weights, representatives, texts).eval()
    info = ModelInfo.made(config, float("inf"), 0)
    write_json(run.path / "config.json", config.to_dict())
    facts = provenance("fp32", "") | {"weights": weights.source}
    write_json(run.path / "provenance.json", facts)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    metadata = {KEY: info.to_json()}
    write_whole(run.path / "model.safetensors", lambda part: save_file(state, part, metadata))
    return run


def _dataset_of(path: Path) -> str:
    """The data set that the folders above a file are named after."""
    for folder in path.parents:
        if folder.name.removesuffix("_weights").lower() in OPEN_BIN:
            return folder.name.removesuffix("_weights").lower()
    raise ValueError(
        f"{path} does not say what it was trained on, and no folder above it is named after a data set. "
        f"Give --trained-on, one of: {', '.join(OPEN_BIN)}."
    )


def _prompts_beside(path: Path) -> str | None:
    """What Hugging Face's `config.json` beside a file says of its prompts, if anything."""
    beside = path.with_name("config.json")
    said = json.loads(beside.read_text()) if beside.is_file() else {}
    return said.get("prompt_type") if isinstance(said, dict) else None
