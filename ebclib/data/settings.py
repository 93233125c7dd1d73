"""`dataset.yaml`: the few things about an own folder that its files do not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from ebclib.config import one_of
from ebclib.data.catalogue import LEAST_SIDE

FILE = "dataset.yaml"
FRACTIONS = {"train": 0.8, "test": 0.2}
"""How images are divided where there are no folders for splits."""

_SPELLINGS = {
    "train": ("train", "training", "train_data"),
    "val": ("val", "valid", "validation", "val_data"),
    "test": ("test", "testing", "test_data"),
}


@dataclass(frozen=True)
class FolderSettings:
    """What `dataset.yaml` may say; everything has a default.

    Attributes
    ----------
    title : for tables
    noun, plural : what is counted; a plural not given is English's (goose, geese)
    longest_side : longest side of a prepared image, pixels
    least_side : its least side, pixels; smaller images are enlarged
    splits : folders ``{train: dir, test: dir}`` or parts ``{train: 0.8, test: 0.2}``; not given:
        the folders train, val, test that are there, or else `FRACTIONS`
    seed : of the division into parts
    category : COCO: the category to count
    unlabelled : splits that have no points
    unlisted : what an image means that a listing of points does not name: an ``error``, or nobody
        (``empty``)
    coordinates : ``check`` whether x and y look like pixels, or take them for ``pixels`` as they are
    """

    title: str = ""
    noun: str = "person"
    plural: str = ""
    longest_side: int | None = None
    least_side: int = LEAST_SIDE
    splits: Mapping[str, str | float] = field(default_factory=dict)
    seed: int = 0
    category: str | None = None
    unlabelled: tuple[str, ...] = ()
    unlisted: Literal["error", "empty"] = "error"
    coordinates: Literal["check", "pixels"] = "check"
    heap: str = field(default="", metadata={"given": False})
    """The folder whose images are divided; empty: the data set's own. No key of the file."""

    @property
    def fractions(self) -> dict[str, float]:
        """The parts of a division; empty where splits are folders."""
        return {name: part for name, part in self.splits.items() if not isinstance(part, str)}


def read_settings(folder: Path) -> FolderSettings:
    """The settings of an own folder, its splits filled in.

    Raises
    ------
    ValueError : not YAML, an unknown key (the nearest is named), or a value of another kind
    """
    path, short = folder / FILE, folder / "dataset.yml"
    if path.is_file() and short.is_file():
        raise ValueError(f"{folder} has both {FILE} and {short.name}. Keep one.")
    path = short if short.is_file() else path
    content: Any = {}
    if path.is_file():
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8-sig")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as problem:
            raise ValueError(f"{path}: not YAML ({problem}).") from problem
    if not isinstance(content, dict):
        raise ValueError(f"{path}: lines such as `noun: bird` are expected, not {content!r:.60}.")
    for key in content:
        try:
            one_of("key", str(key), _keys())
        except ValueError as problem:
            raise ValueError(f"{path}: {problem}") from None
    values = {key: value for key, value in content.items() if value is not None}
    _check(values, path)
    values["splits"] = values.get("splits") or _found_splits(folder) or FRACTIONS
    _check_splits(values["splits"], folder, path)
    if list(values["splits"]) == ["train"]:  # something has to be left to measure on
        values["heap"] = values["splits"]["train"]
        values["splits"] = FRACTIONS
    noun = values.get("noun", "person")
    values.setdefault("plural", "people" if noun == "person" else _plural(noun))
    return FolderSettings(**values)


def _keys() -> list[str]:
    return [item.name for item in fields(FolderSettings) if item.metadata.get("given", True)]


def _plural(noun: str) -> str:
    """The English plural of a noun; of one that is no English its own with an s."""
    import inflect  # slow, and only needed where a folder gives no plural

    return str(inflect.engine().plural_noun(noun) or f"{noun}s") if noun.strip() else noun


def _check(values: dict[str, Any], path: Path) -> None:
    """Turn values into the fields' types, or say which is of another kind."""
    for key in ("title", "noun", "plural", "category"):
        if key in values and not isinstance(values[key], str):
            raise ValueError(f"{path}: {key} is {values[key]!r}; a word is expected (quote it).")
    for key, least in (("longest_side", 1), ("least_side", 1), ("seed", 0)):
        if key in values and (type(values[key]) is not int or values[key] < least):
            raise ValueError(
                f"{path}: {key} is {values[key]!r}; a whole number from {least} is expected."
            )
    if not isinstance(values.get("splits", {}), dict):
        raise ValueError(
            f"{path}: splits is {values['splits']!r}; expected is {{train: dir, test: dir}}."
        )
    given = values.get("unlabelled", [])
    values["unlabelled"] = tuple([given] if isinstance(given, str) else given)
    one_of(f"{path}: unlisted", str(values.get("unlisted", "error")), ("error", "empty"))
    one_of(f"{path}: coordinates", str(values.get("coordinates", "check")), ("check", "pixels"))


def _found_splits(folder: Path) -> dict[str, str]:
    there = {path.name.lower(): path.name for path in folder.iterdir() if path.is_dir()}
    return {
        split: there[name] for split, names in _SPELLINGS.items() for name in names if name in there
    }


def _check_splits(splits: Mapping[str, Any], folder: Path, path: Path) -> None:
    kinds = {isinstance(value, str) for value in splits.values()}
    if len(kinds) != 1:
        raise ValueError(f"{path}: splits are folders or parts, not both: {dict(splits)!r}.")
    for name, value in splits.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{path}: {name!r} is no name for a split; train, val, test are.")
        if isinstance(value, str) and not (folder / value).is_dir():
            raise ValueError(
                f"{path}: split {name!r} is the folder {folder / value}, which is not there."
            )
        if not isinstance(value, str) and (type(value) not in (int, float) or not value > 0):
            raise ValueError(f"{path}: split {name!r} is {value!r}; a part above 0 is expected.")
    if list(splits) == ["train"] and kinds == {False}:
        raise ValueError(f"{path}: splits leave nothing to measure on; give test a part, too.")
