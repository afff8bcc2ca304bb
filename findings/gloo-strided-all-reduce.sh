#!/usr/bin/env bash
# torch 2.13.0, gloo: all_reduce of a view with gaps adds up the wrong numbers, and says nothing.
#
# Guess: refused (NCCL demands contiguous tensors), or right.
# Seen:  the first n numbers of the storage are reduced, where n is the view's size: one element of
#        the view stays what it was on each rank, and one beside the view is doubled.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
packages torch==2.13.0 numpy==2.3.4
expect 'import os
import torch, torch.distributed as dist, torch.multiprocessing as mp

def rank(number, port):
    dist.init_process_group("gloo", init_method=f"file://{port}", rank=number, world_size=2)
    whole = torch.arange(6.0).reshape(2, 3)
    view = whole[:, ::2]
    wanted = (2 * view).tolist()
    dist.all_reduce(view)
    if number == 0:
        print("wanted", wanted)
        print("found ", view.tolist())
        print("beside", whole[:, 1].tolist(), "was [1.0, 4.0]")

if __name__ == "__main__":
    mp.spawn(rank, (os.path.abspath("meeting"),), nprocs=2)' \
'wanted [[0.0, 4.0], [6.0, 10.0]]
found  [[0.0, 4.0], [6.0, 5.0]]
beside [2.0, 4.0] was [1.0, 4.0]'
