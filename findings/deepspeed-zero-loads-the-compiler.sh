#!/usr/bin/env bash
# deepspeed 0.19.8: building an engine with ZeRO imports torch._inductor on every rank, seconds of it,
# though nothing is compiled: the check of the optimizer imports DeepSpeed's Muon, whose functions are
# decorated with torch.compile.
#
# Guess: only with "compile", or with Muon as the optimizer.
# Seen:  torch._inductor is loaded at stage 1 and not at stage 0, with AdamW.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
packages torch==2.13.0 deepspeed==0.19.8 numpy==2.3.4
expect 'import os, sys
os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1",
                  MASTER_PORT="29582", DS_ACCELERATOR="cpu", DS_BUILD_OPS="0")
import contextlib, io
import torch
with contextlib.redirect_stdout(io.StringIO()):
    import deepspeed, deepspeed.ops
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled
    deepspeed.init_distributed("gloo")

for stage in (0, 1):
    with contextlib.redirect_stdout(io.StringIO()):
        model = torch.nn.Linear(4, 1)
        deepspeed.initialize(
            model=model, optimizer=torch.optim.AdamW(model.parameters()),
            config={"train_batch_size": 1, "zero_optimization": {"stage": stage}},
        )
    print("stage", stage, "torch._inductor.compile_fx" in sys.modules)' \
'stage 0 False
stage 1 True'
