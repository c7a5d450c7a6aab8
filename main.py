"""LongSkel's command: ``python main.py PROCESSOR -c CONFIG [key=value …]``."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchlight import distributed
from torchlight.build import PACKAGES
from torchlight.checkpoint import CheckpointError, WeightsError
from torchlight.config import ConfigError, load_config, to_yaml
from torchlight.log import WorkDirInUse

# Imported when chosen: --help and config errors need no torch model code.
PROCESSORS = {
    "recognition": ("processor.recognition", "Recognition"),
}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. ``key=value`` settings may stand anywhere after the processor's name."""
    parser = argparse.ArgumentParser(
        prog="main.py",
        description="Train and judge models of skeleton actions.",
        epilog="Any key of the config can be set by key=value, e.g. stream=bone optim.lr=0.05",
    )
    parser.add_argument("processor", choices=PROCESSORS)
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="YAML config, e.g. config/demo/st_gcn.yaml")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings that override the config's")
    parser.add_argument("-w", "--work_dir", metavar="DIR", help="where the files of the run go")
    parser.add_argument("--phase", choices=("train", "test"), default="train", help="test scores --weights only")
    parser.add_argument("--weights", metavar="FILE", help="weights to start from, or to test")
    parser.add_argument("--device", help="auto (default), cpu, cuda, cuda:1, …")
    parser.add_argument("--resume", action="store_true", help="continue the run in work_dir, or begin it")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in work_dir")
    parser.add_argument("--debug", action="store_true", help="two epochs of two batches of everything, full error traces")
    parser.add_argument("--plugin", action="append", default=[], metavar="PACKAGE", help="admit classes of this package")
    parser.add_argument("--print_config", action="store_true", help="print what would run, and stop")
    args = parser.parse_intermixed_args(argv)
    if args.resume and args.overwrite:
        parser.error("--resume continues a run and --overwrite replaces it: choose one")
    if args.phase == "test" and args.resume:
        parser.error("--resume continues training: it does not go with --phase test")
    return args


def overrides(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that stand for config keys, as dotted keys."""
    flags = {"work_dir": args.work_dir, "weights": args.weights, "device": args.device}
    return {key: value for key, value in flags.items() if value is not None}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 could not run or broke off, 2 wrong config or usage."""
    args = parse(argv)
    try:
        return run(args)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except USER_ERRORS as error:
        if args.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        distributed.shutdown()


if __name__ == "__main__":
    sys.exit(main())
