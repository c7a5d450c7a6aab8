"""Prepares any source: writes the prepared file and a report, and prints counts and a command for training."""

import argparse
import shlex
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from data_gen.report import Report, run_command
from data_gen.sources.source import Kept, Problem, Source, Splits
from data_gen.summary import count_splits
from feeder.prepared import NO_LABEL, PreparedWriter, refuse_existing
from net.utils.channels import in_plane

MAX_RATIO = 3  # above this ratio of the most frequent class to the rarest, suggest balanced training
MAX_SHOWN = 10  # number of classes without a clip that are listed
CUSTOM_RECIPE = "config/custom/st_gcn.yaml"
PRETRAIN_RECIPE = "config/custom/pretrain_aimclr.yaml"


def run_preparation(args: argparse.Namespace, make_source: Callable[[], Source]) -> int:
    """Run a command and return its exit status; see `run_command` and `prepare`.

    Args:
        args: with `out` (None for the source's default), `overwrite`, `max_bad` and `num_worker`.
        make_source: finds the recordings; called only if the output may be written.
    """

    def command() -> int:
        if args.out is not None:
            refuse_existing(args.out, overwrite=args.overwrite)
        source = make_source()
        out = args.out or source.default_out
        report = prepare(source, out, overwrite=args.overwrite, num_worker=args.num_worker)
        return report.exit_status(args.max_bad)

    return run_command(command)


def prepare(source: Source, out: Path, *, overwrite: bool, num_worker: int) -> Report:
    """Write the prepared file `out` and its report, and print a summary; poses are not kept in memory.

    Raises:
        ValueError: no clip can be used, or the source cannot be split.
        FileExistsError: `out` exists, and `overwrite` is false.
        OSError: the file cannot be written.
    """
    began = time.perf_counter()
    report = Report(out)
    writer = PreparedWriter(
        out,
        skeleton=source.skeleton,
        class_names=source.class_names,
        frame_rate=source.frame_rate,
        bodies=source.bodies,
        source=source.source,
        channels=source.channels,
        unit=source.unit,
        overwrite=overwrite,
    )
    kept: list[Kept] = []
    num_body = 1
    for problem in source.problems:
        report.add(*problem[:3], mended=problem.mended)
    entries = source.entries(num_worker)
    with writer, closing(entries):
        for some in tqdm(entries, total=source.num_item, unit=source.item, disable=None):
            for entry in some:
                if isinstance(entry, Problem):
                    report.add(*entry[:3], mended=entry.mended)
                    continue
                try:
                    writer.append(entry.name, entry.label, entry.tracks, **entry.keys)
                except ValueError as error:
                    report.add(source.source, None, str(error))
                    continue
                kept.append(Kept(entry.name, entry.label, entry.keys))
                num_body = max(num_body, len(entry.tracks))
        report.write()
        if not kept:
            raise ValueError(f"no clip of {source.source} can be used{_first(report)}")
        splits = _split(source, kept, report)
        writer.finish(splits, {"num_bad": report.num_bad, **source.attrs})
    _print_summary(source, out, kept, splits, report, rate=len(kept) / (time.perf_counter() - began))
    command = training_command(source, out, kept, splits, num_body=num_body)
    if command is None:
        least = "a class" if source.recipe_classes == 1 else f"{source.recipe_classes} classes"
        print(f"no benchmark has {least} in training and a test clip: prepare more clips to train")
    else:
        print(f"train with, for instance:\n    {command}")
    return report


def _split(source: Source, kept: Sequence[Kept], report: Report) -> Splits:
    """The benchmarks; an error also gives the number of skipped clips, which may be its cause."""
    try:
        return source.splits(kept)
    except ValueError as error:
        if not report.num_bad:
            raise
        raise ValueError(
            f"{error}; {report.num_bad} bad inputs were skipped before, see {report.path}"
        ) from None


def _first(report: Report) -> str:
    """The first row of a report, as the end of a message."""
    if not report.rows:
        return ""
    file, _, reason = report.rows[0]
    return f"; the first, {file}: {reason} (all: {report.path})"


def _print_summary(
    source: Source, out: Path, kept: Sequence[Kept], splits: Splits, report: Report, *, rate: float
) -> None:
    """Print the numbers of clips, what was left out, and the empty classes."""
    size = out.stat().st_size / 1e6
    of_classes = f"of {len(source.class_names)} classes, " if source.class_names else "without labels, "
    print(f"{out}: {len(kept):,} clips {of_classes}{size:,.0f} MB, {rate:,.0f} clips/s")
    print(count_splits(splits, source.official))
    for note in source.notes(kept):
        print(note)
    counts = [f"{count} {what}" for what, count in source.left_out.items()] + [f"{report.num_bad} bad"]
    mended = f"; {report.num_mended} used with a remark" if report.num_mended else ""
    print(f"left out: {', '.join(counts)}{mended} ({report.path})")
    unlabelled = sum(clip.label == NO_LABEL for clip in kept)
    if unlabelled and source.class_names:
        print(f"without a label: {unlabelled} clips")
    empty = sorted(set(range(len(source.class_names))) - {clip.label for clip in kept})
    if empty:
        more = f" and {len(empty) - MAX_SHOWN} more" if len(empty) > MAX_SHOWN else ""
        names = (source.class_names[label] for label in empty[:MAX_SHOWN])
        print(f"classes without a clip: {', '.join(names)}{more}")


def training_command(
    source: Source, out: Path, kept: Sequence[Kept], splits: Splits, *, num_body: int
) -> str | None:
    """A command that trains on the prepared file, with the config of the data set, or the one for own data.

    If no benchmark has labelled test clips and `recipe_classes` classes in training, it is a command that pre-trains on
    own data, and None for a data set.
    """
    labelled = {
        benchmark: {
            part: [clip for clip in clips if kept[clip].label != NO_LABEL] for part, clips in parts.items()
        }
        for benchmark, parts in splits.items()
    }
    full = [
        benchmark
        for benchmark, parts in labelled.items()
        if all(parts.values()) and len({kept[clip].label for clip in parts["train"]}) >= source.recipe_classes
    ]
    benchmark = next(iter(full or splits))
    settings: dict[str, object] = {"data.path": out}
    if source.recipe is not None:
        if not full:
            return None
        settings |= {**source.recipe_settings, "benchmark": benchmark}
        return _command(source.recipe_task, source.recipe, settings)
    settings |= {
        "data.layout": source.layout,
        "data.num_class": max(1, len(source.class_names)),
        "data.num_body": num_body,
        "benchmark": benchmark,
    }
    if in_plane(source.channels):
        settings["data.channels"] = source.channels
    if not full:
        return _command("pretrain", _recipe_for(source.channels, PRETRAIN_RECIPE), settings)
    count = Counter(kept[clip].label for clip in labelled[benchmark]["train"]).values()
    if max(count) > MAX_RATIO * min(count):
        settings["data.balanced"] = "true"
    return _command("recognition", _recipe_for(source.channels, CUSTOM_RECIPE), settings)


def _recipe_for(channels: str, recipe: str) -> str:
    """The recipe, or the one for poses in the picture."""
    return recipe.replace(".yaml", "_2d.yaml") if in_plane(channels) else recipe


def _command(processor: str, config: str, settings: dict[str, object]) -> str:
    words = [shlex.quote(f"{key}={value}") for key, value in settings.items()]
    return f"python main.py {processor} -c {config} {' '.join(words)}"
