"""LongSkel's command: `python main.py PROCESSOR -c CONFIG [key=value …]`."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

from processor.checks import problems_of
from processor.moved_configs import find_moved, print_new_command
from processor.processor import Processor
from processor.registry import PROCESSORS, task_class
from processor.schedule import changed_by_inheritance
from torchlight import distributed
from torchlight.build import PACKAGES, Problem
from torchlight.config import ConfigError, Loaded, load, to_yaml
from torchlight.origins import annotate

# Errors that a user can correct; any other error is a defect and shows its trace.
USER_ERRORS = (OSError, ValueError, ArithmeticError)
# Parts of torch's messages when a device or CPU has no memory left.
NO_MEMORY = ("out of memory", "can't allocate memory")


def parse(
    argv: Sequence[str] | None, *, processor: str | None = None, config: str | None = None
) -> argparse.Namespace:
    """The command line. `key=value` settings may stand anywhere after the processor's name.

    Args:
        argv: the words after the program's name; None for those of this process.
        processor: None if the first word names it.
        config: the default config file; None if the command line must name one.
    """
    parser = argparse.ArgumentParser(
        description="Train and evaluate models of skeleton-based action recognition."
        if processor is None
        else f"The same as main.py {processor}.",
        epilog="Any key of the config can be set by key=value, e.g. stream=bone optim.lr=0.05",
    )
    add = parser.add_argument
    if processor is None:
        add("processor", choices=PROCESSORS)
    else:
        parser.set_defaults(processor=processor)
    add("settings", nargs="*", metavar="key=value", help="settings that override the config's")
    shown = (
        "YAML config, e.g. config/demo/st_gcn.yaml" if config is None else f"YAML config (default: {config})"
    )
    add("-c", "--config", required=config is None, default=config, metavar="FILE", help=shown)
    add("-w", "--work_dir", metavar="DIR", help="where the files of the run go")
    add("--phase", choices=("train", "test"), default="train", help="test only evaluates --weights")
    add("--weights", metavar="FILE", help="weights to start from, or to test")
    add("--device", metavar="NAME", help="auto (default), cpu, cuda, cuda:1, …")
    add("--resume", action="store_true", help="continue the run in work_dir, or begin it")
    add("--overwrite", action="store_true", help="replace the run in work_dir")
    add(
        "--debug",
        action="store_true",
        help="two epochs (one of each phase) of two batches of everything; errors show their trace",
    )
    add("--plugin", action="append", default=[], metavar="PACKAGE", help="admit classes of this package")
    add(
        "--print_config",
        action="store_true",
        help="print the config, and where each value comes from; then stop",
    )
    args = parser.parse_intermixed_args(argv)
    if args.resume and args.overwrite:
        parser.error("--resume continues a run and --overwrite replaces it: choose one")
    if args.resume and args.phase == "test":
        parser.error("--resume continues training: it does not go with --phase test")
    return args


def settings_of(args: argparse.Namespace) -> list[str | tuple[str, Any]]:
    """The `key=value` settings, then the flags that stand for config keys."""
    flags = {"work_dir": args.work_dir, "weights": args.weights, "device": args.device}
    settings = [*args.settings, *((key, value) for key, value in flags.items() if value is not None)]
    return [*settings, ("debug", True)] if args.debug else settings


def read_config(args: argparse.Namespace) -> Any:
    """The config that a command line names, checked; see `load_run`."""
    return load_run(args).config


def load_run(args: argparse.Namespace) -> Loaded[Any]:
    """The config that a command line names, checked, and where its values come from.

    Raises:
        ConfigError: something is wrong with it.
    """
    chosen = task_class(args.processor)

    def check(config: object) -> list[Problem]:
        problems = problems_of(chosen(config, (*PACKAGES, *args.plugin)))
        if args.phase == "test" and config.weights is None:  # type: ignore[attr-defined]
            problems.append(Problem("weights", "--phase test needs weights; name them with --weights FILE"))
        return problems

    loaded = load(args.config, settings_of(args), chosen.config_class, check=check, find_moved=find_moved)
    config = loaded.config
    # Neither a trial nor a test may touch the files of a training run.
    if args.debug:
        config.work_dir = str(Path(config.work_dir) / ("debug" if args.phase == "train" else "debug_test"))
    elif args.phase == "test" and args.work_dir is None:
        config.work_dir = str(Path(config.work_dir) / "test")
    return loaded


def is_first_process() -> bool:
    """Whether this is the first of the processes that torchrun has started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def print_changes(loaded: Loaded[Any]) -> None:
    """Print, in the main process only, where a config has another meaning than in earlier versions."""
    if is_first_process():
        for line in changed_by_inheritance(getattr(loaded.config, "schedule", ()), loaded.inherited):
            print(f"note: {line}", file=sys.stderr)


def make_processor(args: argparse.Namespace) -> Processor:
    """The run that a command line names; checks its config.

    Raises:
        ConfigError: something is wrong with it.
    """
    loaded = load_run(args)
    print_changes(loaded)
    distributed.init(loaded.config.device)
    return Processor(task_class(args.processor)(loaded.config, (*PACKAGES, *args.plugin)))


def run(args: argparse.Namespace) -> None:
    """Load and check the config, then train or test."""
    if args.print_config:
        loaded = load_run(args)
        print_changes(loaded)
        if is_first_process():
            print(annotate(to_yaml(loaded.config), (origin for _, origin in loaded.origins)), end="")
        return
    processor = make_processor(args)
    processor.setup(args.phase)
    if args.phase == "train":
        processor.train(resume=args.resume, overwrite=args.overwrite or args.debug)
    else:
        processor.test(overwrite=args.overwrite or args.debug)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error is about memory; those of torch are RuntimeErrors."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in NO_MEMORY)


def main(
    argv: Sequence[str] | None = None, *, processor: str | None = None, config: str | None = None
) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 wrong config or usage.

    After a stop signal the state is saved, and the exit status is 128 + the signal's number (143 for SIGTERM).

    Arguments as for `parse`.
    """
    args = parse(argv, processor=processor, config=config)
    words = sys.argv[1:] if argv is None else argv
    print_new_command(args.config, args.settings, ["main.py", *([processor] if processor else []), *words])
    try:
        run(args)
    except ConfigError as error:
        if is_first_process():
            print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except USER_ERRORS as error:
        if args.debug:
            raise
        print(f"error: {error}\n(--debug shows where this came from)", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if args.debug or not is_out_of_memory(error):
            raise
        print(
            f"error: out of memory ({str(error).splitlines()[0] if str(error) else type(error).__name__}); lower "
            "batch_size or test_batch_size, or set data.cache=none",
            file=sys.stderr,
        )
        return 1
    finally:
        distributed.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
