"""Entry point of a checkout: `python run_talkingface.py [command] --model=NAME --dataset=NAME [--key=value ...]`."""

import sys


def main() -> int:
    """Run the command line; before the requirements are installed, say so."""
    try:
        from talkingface.cli import main as command_line
    except ModuleNotFoundError as error:
        if str(error.name).startswith("talkingface"):
            raise
        print(f"error: {error.name} is not installed; run: pip install -r requirements.txt", file=sys.stderr)
        return 2
    return command_line()


if __name__ == "__main__":
    sys.exit(main())
