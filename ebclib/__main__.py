"""The workbook from a shell, the notebooks' own code: `ebc prepare | train | evaluate | count | …`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

from ebclib.config import (
    FIELDS,
    RECIPES,
    Config,
    check_inputs,
    explanations,
    make_config,
    say_roots,
)
from ebclib.runs import Run, open_run

TRAIN = """\
Train, select on validation images, evaluate on the test split.

On several GPUs or nodes:  accelerate launch --num_processes N -m ebclib train ...
In several CPU processes:  torchrun --nproc-per-node N -m ebclib train ...
batch_size is the global batch, of which each process takes an equal share: the result is that of one
process. If one is lost, all end, and --resume goes on from the last checkpoint, in any number."""


COUNT = """\
Count in images, videos and folders of them. Into the output folder go counts.csv, points.csv (a row per
person), maps/, videos.csv and, where files could not be counted, failures.csv with the reasons. Called
again, it counts only files that are new or changed.

Exit status: 0 all were counted; 3 some could not be; 1 none, or something to correct first."""

PARTLY = 3
"""Exit status where some of what was asked for could not be done; argparse has 2."""

SHOWN = 20
"""Rows of a table that are printed."""


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 1 with a message on stderr when it could not.

    A command that did a part of it says so with a status of its own (`PARTLY`).
    """
    given = parser().parse_args(words)
    say_roots()
    try:
        return given.command(given) or 0
    except ModuleNotFoundError as problem:  # of an extra that is not installed
        if str(problem.name).startswith("ebclib"):  # a fault of ours: seen whole
            raise
        wanted = f"{problem.name} is not installed. In the checkout: pip install -e '.[workbook]'"
        print(f"ebc {given.verb}: {wanted}", file=sys.stderr)
        return 1
    except (ValueError, OSError, FloatingPointError) as problem:
        print(f"ebc {given.verb}: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        again = "The same command" if given.verb == "count" else "`--resume`"
        print(f"\nStopped. {again} goes on from where it was.", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The commands and their options; a training option for every field of `Config`."""
    top = argparse.ArgumentParser(prog="ebc", description="Blockwise crowd counting with CLIP-EBC.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="command")
    _add_training(verbs)
    _add_experiments(verbs)
    _add_counting(verbs)
    _add_export(verbs)
    report = verbs.add_parser("report", help="tables of all finished runs")
    report.set_defaults(command=_report)
    return top


def _add_training(verbs: argparse._SubParsersAction) -> None:
    prepare = verbs.add_parser("prepare", help="check a data set and write what training reads")
    prepare.add_argument(
        "dataset", nargs="+", help="sha, shb, qnrf, nwpu, jhu, synthetic, or a folder of yours"
    )
    prepare.add_argument(
        "--skip-bad", action="store_true", help="leave unreadable files out (they are named)"
    )
    prepare.set_defaults(command=_prepare)

    train = verbs.add_parser(
        "train",
        help="train, select on validation images, evaluate on the test split",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=TRAIN,
    )
    train.add_argument("dataset", nargs="?", default="synthetic", help="default: synthetic")
    train.add_argument("--recipe", help=f"where the defaults come from: {', '.join(RECIPES)}")
    begun = train.add_mutually_exclusive_group()
    begun.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    begun.add_argument(
        "--replace",
        action="store_true",
        help="train anew a run that is there; the old one stays until the new one has weights",
    )
    fields = train.add_argument_group("the recipe's values, each changed by giving it")
    for name, explanation in explanations().items():
        if name not in {"dataset", "recipe"}:
            option, text = "--" + name.replace("_", "-"), explanation.replace("%", "%%")
            fields.add_argument(option, dest=name, metavar=_values(name), help=text)
    train.set_defaults(command=_train)

    evaluate = verbs.add_parser(
        "evaluate",
        help="measure a run's weights, on its own data set or another",
        description="Files of another data set carry its name; the run's own stay as they are.",
    )
    _about_a_run(evaluate, "measured on; default: the run's own data set")
    evaluate.add_argument("--split", help="default: the split that the data set's papers report")
    evaluate.add_argument(
        "--positions-px",
        nargs="+",
        type=float,
        default=(8.0, 16.0),
        metavar="PX",
        help="how far from a person its point may be; default: 8 16",
    )
    evaluate.set_defaults(command=_evaluate)


def _add_experiments(verbs: argparse._SubParsersAction) -> None:
    plan = verbs.add_parser("plan", help="what an experiment trains, and what that costs")
    plan.add_argument("experiment", help="a file of notebooks/params, without its ending")
    plan.add_argument("--teraflops", type=float, help="10^12 operations a second reached here")
    plan.set_defaults(command=_plan)

    run = verbs.add_parser("run", help="train an experiment's runs")
    run.add_argument("experiment", help="a file of notebooks/params, without its ending")
    run.add_argument("--runs", nargs="+", help="some of them; default: every one that is missing")
    run.set_defaults(command=_run)


def _add_counting(verbs: argparse._SubParsersAction) -> None:
    count = verbs.add_parser(
        "count",
        help="count in images and videos of your own",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=COUNT,
    )
    count.add_argument("path", nargs="+", type=Path, help="images, videos, folders of them")
    count.add_argument(
        "--out", type=Path, default="counts", help="the folder to write to; default: counts"
    )
    source = count.add_mutually_exclusive_group()
    source.add_argument(
        "--run",
        help="a name in results/runs, a run's folder, or its weights; default: the repository's model "
        "for photographs of crowds",
    )
    source.add_argument(
        "--weights", metavar="FILE", help="a checkpoint that CLIP-EBC's authors released"
    )
    _about_a_checkpoint(count)
    count.add_argument(
        "--regions", type=Path, help="GeoJSON: polygons in pixels, counted each; of images alone"
    )
    maps = argparse.BooleanOptionalAction
    count.add_argument("--maps", action=maps, default=True, help="write maps/*.png (default)")
    count.add_argument(
        "--every", type=float, default=1.0, metavar="S", help="seconds between frames of a video"
    )
    count.add_argument(
        "--precision",
        help="auto (fastest here), fp32, bf16, fp16; default: as the run was measured",
    )
    count.add_argument("--again", action="store_true", help="count all of them again")
    count.set_defaults(command=_count)

    submit = verbs.add_parser("submit", help="count images without labels, as NWPU's site takes it")
    _about_a_run(submit, "counted; default: the run's own data set")
    submit.add_argument("--split", help="default: the split without labels")
    submit.add_argument(
        "--positions", action="store_true", help="the localisation form, with x and y"
    )
    submit.add_argument("--out", type=Path, help="default: submission-….txt in the run's folder")
    submit.set_defaults(command=_submit)


def _about_a_checkpoint(command: argparse.ArgumentParser) -> None:
    """What a released file does not say, where the names of its folders do not say it either."""
    command.add_argument("--trained-on", metavar="NAME", help="its data set: sha, shb, qnrf, nwpu")
    command.add_argument("--prompts", help="of it: word or number")


def _about_a_run(command: argparse.ArgumentParser, what: str) -> None:
    """A run, and the data set it is to look at: the path of a folder, or a name."""
    command.add_argument("run", help="a name in results/runs, or the run's folder")
    data = command.add_mutually_exclusive_group()
    data.add_argument("path", nargs="?", metavar="PATH", help=f"a data set's folder to be {what}")
    data.add_argument("--dataset", metavar="NAME", help="the same, by its name")


def _add_export(verbs: argparse._SubParsersAction) -> None:
    released = verbs.add_parser(
        "import", help="make a run of a checkpoint that CLIP-EBC's authors released"
    )
    released.add_argument("file", help="best_mae.pth and the like, ckpt.pth, or model.safetensors")
    _about_a_checkpoint(released)
    released.set_defaults(command=_import)

    export = verbs.add_parser(
        "export",
        help="write a run's model as one file: ONNX, which needs no PyTorch, or weights alone",
    )
    export.add_argument("run", help="a name in results/runs, or the run's folder")
    export.add_argument(
        "--out",
        type=Path,
        help="the file, .onnx or .safetensors; default: model.onnx in the run's folder",
    )
    export.add_argument("--half", action="store_true", help="16 bits inside: half the size")
    export.set_defaults(command=_export)


def _values(field: str) -> str:
    """What a field takes, for the help: its choices, or its type."""
    hint = typing.get_type_hints(Config)[field]
    options = [part for part in typing.get_args(hint) or (hint,) if part is not type(None)]
    names = []
    for option in options:
        inner = typing.get_args(option) or (getattr(option, "__name__", option),)
        names += [str(name) for name in inner]
    return "|".join(names).upper() if names[0] in {"int", "float", "str"} else "|".join(names)


def _prepare(given: argparse.Namespace) -> None:
    from ebclib import data as datasets

    for name in given.dataset:
        report = datasets.prepare(name, skip_bad=given.skip_bad)
        print(datasets.format_report(report))
        if name not in datasets.DATASETS:
            print(f"\n{_advice(name)}")


def _advice(name: str) -> str:
    """What suits an own data set, or why nothing can be said."""
    from ebclib import data as datasets
    from ebclib.studies.design import advise

    try:
        return advise(datasets.prepared(name, "train", progress=False))[1]
    except ValueError as problem:
        return f"Too little to say what suits {name}: {problem}"


def _train(given: argparse.Namespace) -> None:
    config = make_config(**{name: getattr(given, name) for name in FIELDS})
    check_inputs(config)  # before what follows loads libraries for seconds
    from ebclib.training import shutdown_processes, train

    _show(train(config, resume=given.resume, replace=given.replace))
    shutdown_processes()


def _evaluate(given: argparse.Namespace) -> None:
    from ebclib.training import evaluate, metrics_suffix, shutdown_processes

    run, data = open_run(given.run), given.path or given.dataset
    evaluate(run, given.split, data=data, distances_px=given.positions_px)
    _show(run, metrics_suffix(run, given.split, data))
    shutdown_processes()


def _submit(given: argparse.Namespace) -> None:
    from ebclib.training import shutdown_processes, submit

    data = given.path or given.dataset
    path = submit(open_run(given.run), data, given.split, given.positions, given.out)
    if _is_first():
        print(path)
    shutdown_processes()


def _plan(given: argparse.Namespace) -> None:
    from ebclib.studies import costs, format_costs, load

    print(format_costs(costs(load(given.experiment), given.teraflops)))


def _run(given: argparse.Namespace) -> None:
    from ebclib.studies import load, train_runs

    failed = train_runs(load(given.experiment), given.runs)
    if failed:
        raise ValueError(f"{len(failed)} run(s) failed, see above: {', '.join(failed)}")


def _count(given: argparse.Namespace) -> int:
    from ebclib.counting import count_files

    if given.weights:
        from ebclib.counting.released import import_released

        source = import_released(given.weights, given.trained_on, given.prompts)
        print(f"Counted by the run {source.name}.", file=sys.stderr)
    else:
        source = given.run
    done = count_files(
        given.path,
        given.out,
        source,
        given.regions,
        given.maps,
        given.again,
        precision=given.precision,
        every_s=given.every,
    )
    for table in (done.table.drop(columns=["notes", "model"]), done.regions, done.videos):
        if len(table):
            rest = f"\n… and {len(table) - SHOWN} more" if len(table) > SHOWN else ""
            print(table.head(SHOWN).round(1).to_string(index=False, na_rep="") + rest)
    counted, failed = len(done.table) + len(done.videos), len(done.failures)
    before = f" ({counted - done.again} of them before)" if counted > done.again else ""
    print(f"{counted} counted{before}, {failed} not; see {given.out / 'counts.csv'}")
    for note, some in list(done.table.groupby("notes")["image"])[:SHOWN]:
        if note:
            print(f"{len(some)} image(s), the first is {some.iloc[0]}: {note.strip()}")
    if given.regions and len(done.videos):
        print("Regions are counted in images; the frames of videos were counted whole.")
    for row in done.failures.head(SHOWN).itertuples():
        print(f"not counted: {row.image}: {row.reason}", file=sys.stderr)
    if failed > SHOWN:
        print(f"… and {failed - SHOWN} more in {given.out / 'failures.csv'}", file=sys.stderr)
    return 1 if not counted else PARTLY if failed else 0


def _import(given: argparse.Namespace) -> None:
    from ebclib.counting.released import import_released

    print(import_released(given.file, given.trained_on, given.prompts).name)


def _export(given: argparse.Namespace) -> None:
    run, out = open_run(given.run), given.out
    if out is not None and out.suffix == ".safetensors":
        from ebclib.evaluation.metadata import export_weights

        path, checked = export_weights(run, out, given.half), ""
    else:
        from ebclib.counting.export import export_run

        path, checked = export_run(run, out, given.half), ", checked against the model"
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB{checked}")


def _report(given: argparse.Namespace) -> None:
    from ebclib.studies import write_tables

    tables = write_tables()
    if not tables:
        raise FileNotFoundError(
            "There is no finished run yet: `make reproduce` or `ebc train` makes one."
        )
    for dataset, table in tables.items():
        shown = table.assign(run=table["run"].map(_shortened)).round(2)
        print(f"\n{dataset}: {len(table)} run(s); errors in people\n{shown.to_string(index=False)}")


def _shortened(name: str, most: int = 48) -> str:
    """A run's name to print; of a long one the beginning and the end."""
    return name if len(name) <= most else f"{name[: most - 17]}…{name[-16:]}"


def _is_first() -> bool:
    """Of several processes the first one speaks."""
    return not int(os.environ.get("RANK", 0))


def _show(run: Run, suffix: str = "") -> None:
    """What an evaluation found, in a few lines."""
    if not _is_first():
        return
    from ebclib.evaluation.metadata import too_few

    metrics = json.loads((run.path / f"metrics{suffix}.json").read_text())
    print(
        f"{run.path}\n{metrics['dataset']} {metrics['split']}, {metrics['images']} images: "
        f"MAE {metrics['mae']:.1f}, RMSE {metrics['rmse']:.1f}, NAE {_percent(metrics.get('nae'))} "
        f"(always saying the training mean: MAE {_people(metrics['mean_predictor_mae'])})"
    )
    shares = [f"{row['f1']:.2f} within {row['distance_px']:g} px" for row in metrics["positions"]]
    print(f"positions: F1 {', '.join(shares)}")
    if metrics["interval_factor"] is None:
        print(f"90 % intervals: none; {too_few(metrics.get('held_out_images'))}")
    elif "intervals_scaled_on" in metrics:
        print(
            f"90 % intervals, scaled on {metrics['intervals_scaled_on']} and so not bound to hold here: "
            f"{metrics['inside_interval']:.0%} of the images are inside"
        )


def _people(number: float | None) -> str:
    return "—" if number is None else f"{number:.1f}"


def _percent(share: float | None) -> str:
    return "—" if share is None else f"{share:.1%}"


if __name__ == "__main__":
    sys.exit(main())
