"""Stage 2 of semi-supervised adaptation: `main.py finetune_evaluation`, by default on PKU-MMD part I."""

import sys

if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

from main import main

CONFIG = "config/adaptation/stage2.yaml"

if __name__ == "__main__":
    sys.exit(main(processor="finetune_evaluation", config=CONFIG))
