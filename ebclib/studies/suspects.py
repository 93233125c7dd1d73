"""What a data set's own faults do to a run's numbers: images seen twice, annotations to doubt."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from ebclib.evaluation import errors
from ebclib.studies.collecting import Diagnosis


def errors_without(
    predictions: pd.DataFrame, groups: Mapping[str, Collection[str]]
) -> pd.DataFrame:
    """A run's errors on all images, and without some of them.

    Parameters
    ----------
    predictions : columns image, points, count (`Run.predictions`)
    groups : what is left out, and the names of its images; the table has a row for each

    Returns
    -------
    ``images`` (how many are measured), ``mae``, ``rmse`` and ``bias`` (mean of predicted − annotated),
    in people, and ``nae``, a share; the first row is of all images

    Raises
    ------
    ValueError : a name that is not there, or a group that leaves no image

    >>> table = pd.DataFrame({"image": ["a", "b"], "points": [10, 20], "count": [10.0, 26.0]})
    >>> errors_without(table, {"images seen in training": ["a"]})["mae"].to_dict()
    {'all': 3.0, 'without images seen in training': 6.0}
    """
    rows = {"all": predictions}
    for name, images in groups.items():
        unknown = set(images) - set(predictions["image"])
        if unknown:
            raise ValueError(f"No prediction of {', '.join(sorted(unknown))}.")
        rows[f"without {name}"] = predictions[~predictions["image"].isin(images)]
    return pd.DataFrame(
        {
            name: {
                "images": len(kept),
                **errors(kept["points"], kept["count"]),
                "bias": (kept["count"] - kept["points"]).mean(),
            }
            for name, kept in rows.items()
        }
    ).T.astype({"images": int})


def suspect_annotations(found: Diagnosis, most: int = 5, window_px: int = 64) -> pd.DataFrame:
    """The images whose annotation a model believes least.

    They are those with people where it sees none, and none where it sees some: an annotation that
    belongs to another image may have a likely number of people, but hardly in these places. Either the
    model or the annotation is wrong; a look tells which.

    Parameters
    ----------
    found : `diagnose` of training images, say
    most : how many are named
    window_px : people are compared in windows of this side, or of the next smaller side that an image has
        (a block, where there is none): places are never right to the pixel

    Returns
    -------
    ``image``, ``points``, ``count``, ``misplaced`` and ``doubt``. ``misplaced`` is Σ over windows of
    |predicted − annotated|, as a share of the people predicted and annotated (Bray and Curtis 1957).
    0: as many in every window; 1: nobody where the other has somebody. ``doubt``, by which they are ranked,
    is the same share once an average image's people stand beside these, rightly placed: a few
    that are made up in an empty street are no reason to doubt it.
    """
    windows = found.windows
    near = windows[windows["side_px"] <= max(window_px, windows["side_px"].min())]
    wrong = near.loc[near.groupby("image")["side_px"].idxmax()].set_index("image")["absolute"]
    images = found.images.set_index("image")[["points", "count"]]
    people = images.sum(axis=1)
    shares = {"misplaced": wrong / people, "doubt": wrong / (people + people.mean())}
    return images.assign(**shares).nlargest(most, "doubt").reset_index()
