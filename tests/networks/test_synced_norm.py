"""Synced batch norm: two processes give the numbers, gradients and averages of one, whatever their batches."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from helpers.normed_network import normed_network
from talkingface.networks.synced_norm import SyncedBatchNorm, common_statistics, synced

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from helpers.normed_network import normed_network
from talkingface.networks.synced_norm import common_statistics, synced
torch.set_num_threads(1)
dist.init_process_group("gloo")
given = torch.load(sys.argv[1], weights_only=True)
network = synced(normed_network()).train()
start, end = [(0, 3), (3, 4)][dist.get_rank()]
x = given["x"][start:end].requires_grad_()
with common_statistics():
    out = network(x)
    (out * given["weights"][start:end]).sum().backward()
grads = [p.grad for p in network.parameters()]
torch.save({"out": out.detach(), "x": x.grad, "grads": grads, "state": network.state_dict()},
           sys.argv[2] + str(dist.get_rank()))
if dist.get_rank() == 0:
    network(x.detach())  # outside no process asks another, or this would wait forever
dist.destroy_process_group()
"""


def test_two_processes_with_unequal_batches_equal_one_with_both(tmp_path):
    whole = normed_network()
    x, weights = 50 + torch.randn(4, 3, 9, 8), torch.randn(4, 5, 20)
    torch.save({"x": x, "weights": weights}, tmp_path / "given")
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29735"]
    command += [str(tmp_path / "script.py"), str(tmp_path / "given"), str(tmp_path / "rank")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    parts = [torch.load(tmp_path / f"rank{rank}", weights_only=True) for rank in (0, 1)]
    own = x.clone().requires_grad_()
    out = whole.train()(own)
    (out * weights).sum().backward()
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(torch.cat([part["out"] for part in parts]), out.detach(), **close)
    torch.testing.assert_close(torch.cat([part["x"] for part in parts]), own.grad, **close)
    for parameter, *grads in zip(whole.parameters(), *(part["grads"] for part in parts), strict=True):
        # Each is a sum over inputs near 50 whose terms cancel, so single entries keep the rounding of the terms.
        atol = 1e-4 * float(parameter.grad.abs().max().clamp_min(50))
        torch.testing.assert_close(sum(grads), parameter.grad, rtol=1e-3, atol=atol)
    for part in parts:
        for key, value in whole.state_dict().items():
            torch.testing.assert_close(part["state"][key], value, rtol=1e-4, atol=1e-4)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}


def test_one_process_keeps_plain_norms_numbers_and_the_weights_themselves():
    plain, other = normed_network(), normed_network()
    held = list(other.parameters())
    keys = list(other.state_dict())
    changed = synced(other)
    assert changed is other and [type(m) for m in other if isinstance(m, nn.modules.batchnorm._BatchNorm)] == (
        [SyncedBatchNorm] * 3
    )
    assert list(other.state_dict()) == keys and all(a is b for a, b in zip(held, other.parameters(), strict=True))
    x = torch.randn(2, 3, 9, 8)
    with common_statistics():
        torch.testing.assert_close(other(x), plain(x), rtol=0, atol=1e-6)
    torch.testing.assert_close(other.state_dict(), plain.state_dict())
    copied = copy.deepcopy(other).eval()
    torch.testing.assert_close(copied(x), plain.eval()(x), rtol=0, atol=1e-6)
