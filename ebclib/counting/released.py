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

FOLDER = re.compile(r"[a-z].+?(_(word|number))?_\d+_(\d+)_(\d+)_(fine|dynamic|coarse)(_fine)?_.+")
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
    """
    path = Path(path).expanduser().resolve()
    weights = read_released(path)
    network = network_of(weights.tensors)
    if not network:
        raise ValueError(
            f"{path} holds none of the authors' networks. A run of one's own is named with --run."
        )
    said = FOLDER.fullmatch(path.parent.name)
    if said and said.groups()[2:5] != ("8", "4", "fine"):
        raise ValueError(
            "Of {}: reduction {}, truncation {}, {} bins. Only 8, 4 and fine bins can be read.".format(
                path.parent.name, *said.groups()[2:5]
            )
        )
    folders = (folder.name.removesuffix("_weights").lower() for folder in path.parents)
    dataset = dataset or next((name for name in folders if name in OPEN_BIN), None)
    if dataset is None:
        raise ValueError(
            f"{path} does not say what it was trained on, nor does a folder above it. "
            f"Give --trained-on, one of: {', '.join(OPEN_BIN)}."
        )
    parts = ["released", one_of("trained-on", dataset, OPEN_BIN), network["model"]]
    if network["model"].startswith("clip_"):
        prompts = prompts or (said and said[2]) or _prompts_beside(path)
        if prompts is None:
            raise ValueError(
                f"{path} does not say which prompts it was trained with, nor does its folder. "
                "Give --prompts word (or number); every file of a ViT is of word."
            )
        network["numerals"] = PROMPTS[one_of("prompts", prompts, PROMPTS)]
        parts.append(prompts)
    name = "-".join([*parts, weights.source.rpartition(":")[2]])
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
    representatives = np.array([*range(4), OPEN_BIN[dataset]])
    texts = sentences(fine(4), numerals=config.numerals)
    model = released_model(config, weights, representatives, texts)
    write_json(run.path / "config.json", config.to_dict())
    facts = provenance("fp32", "") | {"weights": weights.source}
    write_json(run.path / "provenance.json", facts)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    metadata = {KEY: ModelInfo.made(config, float("inf"), 0).to_json()}
    write_whole(run.path / "model.safetensors", lambda part: save_file(state, part, metadata))
    return run


def _prompts_beside(path: Path) -> str | None:
    """What Hugging Face's `config.json` beside a file says of its prompts, if anything."""
    beside = path.with_name("config.json")
    said = json.loads(beside.read_text()) if beside.is_file() else {}
    return said.get("prompt_type")
