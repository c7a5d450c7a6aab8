"""Stage 1 of semi-supervised adaptation: `main.py pretrain`, by default on NTU-60's classes that PKU-MMD has."""

import sys

if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

from main import main

CONFIG = "config/adaptation/stage1.yaml"

if __name__ == "__main__":
    sys.exit(main(processor="pretrain", config=CONFIG))
