#!/usr/bin/env bash
# One node: starts its ranks through torchrun or deepspeed, `bash node.sh PROGRAM ARGUMENTS...`.
#
# Neither needs ssh: srun has started this on every node already. Both die of SIGUSR1, and the ranks
# with them, so it is ignored here; the ranks learn from the run's `stop` file what it would say.
set -eu
trap '' USR1

ranks=(bash "$MIFIRST_ROOT/launcher/slurm/rank.sh" "$@")

case $MIFIRST_STARTER in
torchrun)
    exec "$MIFIRST_PYTHON" -m torch.distributed.run \
        --nnodes "$SLURM_NNODES" --node-rank "$SLURM_NODEID" \
        --nproc-per-node "$MIFIRST_PROCESSES" \
        --master-addr "$MASTER_ADDR" --master-port "$MASTER_PORT" \
        --no-python "${ranks[@]}"
    ;;
deepspeed)
    exec "$MIFIRST_PYTHON" -m deepspeed.launcher.runner \
        --hostfile "$MIFIRST_LOGS/hosts" --no_ssh --node_rank "$SLURM_NODEID" \
        --master_addr "$MASTER_ADDR" --master_port "$MASTER_PORT" \
        --no_python --no_local_rank "${ranks[@]}"
    ;;
*)
    echo "error: MIFIRST_STARTER is '$MIFIRST_STARTER', expected torchrun or deepspeed" >&2
    exit 2
    ;;
esac
