"""The workbook from a shell, the notebooks' own code: `ebc prepare | train | evaluate | count | …`."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
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

A_RUN = "a name in results/runs, or the run's folder"
AN_EXPERIMENT = "a file of notebooks/params, without its ending"


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 1 with a message on stderr, or `PARTLY`."""
    given = parser().parse_args(words)
    say_roots()
    try:
        return given.command(given) or 0
    except ModuleNotFoundError as problem:  # of an extra that is not installed
        name = problem.name or str(problem)
        if name.startswith("ebclib"):  # a fault of ours: seen whole
            raise
        extra = "export" if name.startswith("onnx") else "workbook"
        said = f"{name} is not installed. In the checkout: pip install -e '.[{extra}]'"
    except (ValueError, OSError, FloatingPointError) as problem:
        said = str(problem)
    except KeyboardInterrupt:
        again = "The same command" if given.verb == "count" else "`--resume`"
        print(f"\nStopped. {again} goes on from where it was.", file=sys.stderr)
        return 130
    print(f"ebc {given.verb}: {said}", file=sys.stderr)
    return 1


def parser() -> argparse.ArgumentParser:
    """The commands and their options; a training option for every field of `Config`."""
    top = argparse.ArgumentParser(prog="ebc", description="Blockwise crowd counting with CLIP-EBC.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="command")
    _add_training(verbs)
    _add_counting(verbs)
    plan = _add(verbs, _plan, "what an experiment trains, and what that costs")
    plan.add_argument("experiment", help=AN_EXPERIMENT)
    plan.add_argument("--teraflops", type=float, help="10^12 operations a second reached here")
    run = _add(verbs, _run, "train an experiment's runs")
    run.add_argument("experiment", help=AN_EXPERIMENT)
    run.add_argument("--runs", nargs="+", help="some of them; default: every one that is missing")
    released = _add(verbs, _import, "make a run of a checkpoint that CLIP-EBC's authors released")
    released.add_argument("file", help="best_mae.pth and the like, ckpt.pth, or model.safetensors")
    _about_a_checkpoint(released)
    export = _add(verbs, _export, "write a run's model as one file: ONNX, or weights alone")
    export.add_argument("run", help=A_RUN)
    export.add_argument("--out", type=Path, help=".onnx, .safetensors; default: RUN/model.onnx")
    export.add_argument("--half", action="store_true", help="16 bits inside: half the size")
    _add(verbs, _report, "tables of all finished runs")
    return top


def _add(
    verbs: argparse._SubParsersAction, command: Callable, summary: str, description: str = ""
) -> argparse.ArgumentParser:
    """A command, called as its function."""
    added = verbs.add_parser(
        command.__name__.lstrip("_"),
        help=summary,
        description=description or summary,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.set_defaults(command=command)
    return added


def _add_training(verbs: argparse._SubParsersAction) -> None:
    prepare = _add(verbs, _prepare, "check a data set and write what training reads")
    names = "sha, shb, qnrf, nwpu, jhu, synthetic, or a folder of yours"
    prepare.add_argument("dataset", nargs="+", help=names)
    prepare.add_argument(
        "--skip-bad", action="store_true", help="leave out (and name) unreadable files"
    )

    train = _add(verbs, _train, "train, and evaluate on the test split", TRAIN)
    train.add_argument("dataset", nargs="?", default="synthetic", help="default: synthetic")
    train.add_argument("--recipe", help=f"where the defaults come from: {', '.join(RECIPES)}")
    begun = train.add_mutually_exclusive_group()
    begun.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    anew = "train anew a run that is there; the old one stays until the new one has weights"
    begun.add_argument("--replace", action="store_true", help=anew)
    fields = train.add_argument_group("the recipe's values, each changed by giving it")
    for name, explanation in explanations().items():
        if name not in {"dataset", "recipe"}:
            words = re.findall(r"\w+", Config.__annotations__[name])
            kind = "|".join(word for word in words if word not in ("Literal", "None"))
            option, text = "--" + name.replace("_", "-"), explanation.replace("%", "%%")
            fields.add_argument(option, dest=name, metavar=kind, help=text)

    evaluate = _add(verbs, _evaluate, "measure a run's weights, on its own data set or another")
    _about_a_run(evaluate, "measured on; default: the run's own data set")
    evaluate.add_argument("--split", help="default: the split that the data set's papers report")
    far = "how far from a person its point may be; default: 8 16"
    evaluate.add_argument("--positions-px", nargs="+", type=float, default=(8.0, 16.0), help=far)


def _add_counting(verbs: argparse._SubParsersAction) -> None:
    count = _add(verbs, _count, "count in images and videos of your own", COUNT)
    count.add_argument("path", nargs="+", type=Path, help="images, videos, folders of them")
    count.add_argument("--out", type=Path, default="counts", help="the folder; default: counts")
    source = count.add_mutually_exclusive_group()
    default = f"{A_RUN}, or its weights; default: the repository's model for photographs of crowds"
    source.add_argument("--run", help=default)
    source.add_argument("--weights", metavar="FILE", help="a checkpoint that the authors released")
    _about_a_checkpoint(count)
    count.add_argument("--regions", type=Path, help="GeoJSON: polygons in pixels, of images alone")
    yes_no = argparse.BooleanOptionalAction
    count.add_argument("--maps", action=yes_no, default=True, help="write maps/*.png (default)")
    count.add_argument("--every", type=float, default=1.0, help="seconds between a video's frames")
    kinds = "auto (fastest here), fp32, bf16, fp16; default: as the run was measured"
    count.add_argument("--precision", help=kinds)
    count.add_argument("--again", action="store_true", help="count all of them again")

    submit = _add(verbs, _submit, "count images without labels, as NWPU's site takes it")
    _about_a_run(submit, "counted; default: the run's own data set")
    submit.add_argument("--split", help="default: the split without labels")
    submit.add_argument("--positions", action="store_true", help="the localisation form")
    submit.add_argument("--out", type=Path, help="default: submission-….txt in the run's folder")


def _about_a_checkpoint(command: argparse.ArgumentParser) -> None:
    """What a released file does not say."""
    command.add_argument("--trained-on", metavar="NAME", help="its data set: sha, shb, qnrf, nwpu")
    command.add_argument("--prompts", help="of it: word or number")


def _about_a_run(command: argparse.ArgumentParser, what: str) -> None:
    """A run, and the data set it is to look at."""
    command.add_argument("run", help=A_RUN)
    data = command.add_mutually_exclusive_group()
    data.add_argument("path", nargs="?", metavar="PATH", help=f"a data set's folder to be {what}")
    data.add_argument("--dataset", metavar="NAME", help="the same, by its name")


def _prepare(given: argparse.Namespace) -> None:
    from ebclib import data as datasets

    for name in given.dataset:
        report = datasets.prepare(name, skip_bad=given.skip_bad)
        print(datasets.format_report(report))
        if name not in datasets.DATASETS:
            from ebclib.studies.design import advise

            try:
                advice = advise(datasets.prepared(name, "train", progress=False))[1]
            except ValueError as problem:
                advice = f"Too little to say what suits {name}: {problem}"
            print(f"\n{advice}")


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

    source = given.run
    if given.weights:
        from ebclib.counting.released import import_released

        source = import_released(given.weights, given.trained_on, given.prompts)
        print(f"Counted by the run {source.name}.", file=sys.stderr)
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
            print(table.round(1).to_string(index=False, na_rep="", max_rows=SHOWN))
    counted, failed = len(done.table) + len(done.videos), len(done.failures)
    before = f" ({counted - done.again} of them before)" if counted > done.again else ""
    print(f"{counted} counted{before}, {failed} not; see {given.out / 'counts.csv'}")
    for note, some in list(done.table.groupby("notes")["image"])[:SHOWN]:
        if note:
            print(f"{len(some)} image(s), the first is {some.iloc[0]}: {note}")
    for row in done.failures.head(SHOWN).itertuples():  # the others are in failures.csv
        print(f"not counted: {row.image}: {row.reason}", file=sys.stderr)
    return 1 if not counted else PARTLY if failed else 0


def _import(given: argparse.Namespace) -> None:
    from ebclib.counting.released import import_released

    print(import_released(given.file, given.trained_on, given.prompts).name)


def _export(given: argparse.Namespace) -> None:
    run, out = open_run(given.run), given.out
    if out is not None and out.suffix == ".safetensors":
        from ebclib.evaluation.metadata import export_weights as export
    else:
        from ebclib.counting.export import export_run as export
    path = export(run, out, given.half)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _report(given: argparse.Namespace) -> None:
    from ebclib.studies import write_tables

    tables = write_tables()
    if not tables:
        raise ValueError("There is no finished run yet: `make reproduce` or `ebc train` makes one.")
    for dataset, table in tables.items():
        shown = table.round(2).to_string(index=False)
        print(f"\n{dataset}: {len(table)} run(s); errors in people\n{shown}")


def _is_first() -> bool:
    """Of several processes the first one speaks."""
    return not int(os.environ.get("RANK", 0))


def _show(run: Run, suffix: str = "") -> None:
    """What an evaluation found, in a few lines."""
    if not _is_first():
        return
    from ebclib.evaluation.metadata import too_few

    metrics = json.loads((run.path / f"metrics{suffix}.json").read_text())

    def said(key: str, style: str) -> str:
        return "—" if metrics.get(key) is None else format(metrics[key], style)

    print(
        f"{run.path}\n{metrics['dataset']} {metrics['split']}, {metrics['images']} images: "
        f"MAE {said('mae', '.1f')}, RMSE {said('rmse', '.1f')}, NAE {said('nae', '.1%')} "
        f"(always saying the training mean: MAE {said('mean_predictor_mae', '.1f')})"
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


if __name__ == "__main__":
    sys.exit(main())
