#!/usr/bin/env bash
# deepspeed 0.19.8: a configuration that says nothing of clipping clips gradients to a norm of 1.0.
#
# Guess: no clipping, as the key's documented default of 0 for years meant.
# Seen:  a step of SGD with rate 1 and a gradient of norm 200 moves the weights by 1.0; by 200.0 where
#        "gradient_clipping": 0.0 is given.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
packages torch==2.13.0 deepspeed==0.19.8 numpy==2.3.4
expect 'import os
os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1",
                  MASTER_PORT="29581", DS_ACCELERATOR="cpu", DS_BUILD_OPS="0")
import contextlib, io
import torch
with contextlib.redirect_stdout(io.StringIO()):
    import deepspeed, deepspeed.ops
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled
    deepspeed.init_distributed("gloo")

def moved(**more):
    model = torch.nn.Linear(4, 1, bias=False)
    before = model.weight.detach().clone()
    with contextlib.redirect_stdout(io.StringIO()):
        engine, *_ = deepspeed.initialize(
            model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
            config={"train_batch_size": 1, **more},
        )
        engine.backward(100 * engine(torch.ones(1, 4)).sum())
        engine.step()
    return round(float((model.weight.detach() - before).norm()), 3)

print("nothing said:", moved())
print("gradient_clipping 0.0:", moved(gradient_clipping=0.0))' \
'nothing said: 1.0
gradient_clipping 0.0: 200.0'
