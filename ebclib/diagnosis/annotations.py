"""What a data set's own faults do to a run's numbers: pictures seen twice, annotations to be doubted."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from ebclib.evaluation import errors


def leaving_out(predictions: pd.DataFrame, groups: Mapping[str, Collection[str]]) -> pd.DataFrame:
    """A run's errors on all pictures, and without some of them.

    Parameters
    ----------
    predictions : columns image, points, count (`Run.predictions`)
    groups : what is left out, and the names of its pictures; the table has a row for each

    Returns
    -------
    ``pictures`` (how many are measured), ``mae``, ``rmse`` and ``bias`` (mean of predicted − annotated),
    in people; the first row is of all pictures

    Raises
    ------
    ValueError : a name that is not there, or a group that leaves no picture

    >>> table = pd.DataFrame({"image": ["a", "b"], "points": [10, 20], "count": [10.0, 26.0]})
    >>> leaving_out(table, {"pictures seen in training": ["a"]})["mae"].to_dict()
    {'all': 3.0, 'without pictures seen in training': 6.0}
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
                "pictures": len(kept),
                **errors(kept["points"], kept["count"]),
                "bias": (kept["count"] - kept["points"]).mean(),
            }
            for name, kept in rows.items()
        }
    ).T.astype({"pictures": int})


def doubted(predictions: pd.DataFrame, most: int = 5) -> pd.DataFrame:
    """The pictures whose annotation a model believes least.

    They are ranked by |predicted − annotated| in the model's own deviations, by which its intervals
    are made (`evaluation.conformal_factor`): an error of 50 is little in a crowd of 3000 and much in a
    street of 20. Either the model or the annotation is wrong; a look tells which.

    Parameters
    ----------
    predictions : what `evaluation.predict` returns, of training pictures, say
    most : how many are named

    Returns
    -------
    ``image``, ``points``, ``count``, ``deviations``, the most doubtful first
    """
    deviations = (predictions["count"] - predictions["points"]).abs() / (
        predictions["deviation"] + 1
    )
    ranked = predictions.assign(deviations=deviations).sort_values("deviations", ascending=False)
    return ranked[["image", "points", "count", "deviations"]].head(most).reset_index(drop=True)
