#!/usr/bin/env bash
# torch 2.13.0, gloo: all_reduce with MAX or MIN loses a NaN, so a test for overflow that reduces a
# flag or a norm by MAX does not see the rank that has one.
#
# Guess: NaN, as torch.maximum and the reduction by SUM give.
# Seen:  the other rank's number, on both ranks.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
packages torch==2.13.0 numpy==2.3.4
expect 'import os
import torch, torch.distributed as dist, torch.multiprocessing as mp

def rank(number, port):
    dist.init_process_group("gloo", init_method=f"file://{port}", rank=number, world_size=2)
    for name in ("SUM", "MAX", "MIN"):
        value = torch.tensor([float("nan") if number else 1.0])
        dist.all_reduce(value, getattr(dist.ReduceOp, name))
        if number == 0:
            print(name, value.item())
    if number == 0:
        print("torch.maximum", torch.maximum(torch.tensor(1.0), torch.tensor(float("nan"))).item())

if __name__ == "__main__":
    mp.spawn(rank, (os.path.abspath("meeting"),), nprocs=2)' \
'SUM nan
MAX 1.0
MIN 1.0
torch.maximum nan'
