"""What the scripts of paired timings share: run the parts that are named, and tell what each has taken."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import torch

from talkingface.benchmark.timing import Pair


def tell(parts: Mapping[str, Callable[[], Pair]]) -> None:
    """Print the times of the parts on the command line, of all where none is named; one thread, one seed."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for name in sys.argv[1:] or parts:
        print(name, flush=True)
        pair = parts[name]()
        print(f"  {1000 * pair.slow:.3f} -> {1000 * pair.fast:.3f} ms, {pair.times:.1f} times", flush=True)
