"""Entry point of a checkout: `python run_talkingface.py [command] --model=NAME --dataset=NAME [--key=value ...]`."""

import sys

from talkingface.cli import main

if __name__ == "__main__":
    sys.exit(main())
