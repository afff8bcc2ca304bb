#!/usr/bin/env bash
# One rank: `bash rank.sh PROGRAM ARGUMENTS...`, started by srun, torchrun or deepspeed.
#
# Its output goes to $MIFIRST_LOGS/rank-N.log. SIGTERM and SIGUSR1 are handed on: where processes
# are tracked by cgroups, SLURM signals the first process of a task only. An exit code that is not 0
# is left in $MIFIRST_LOGS/exit-N. 75 (stopped, can go on) ends as 0, since starters take any other
# code for a failure and kill the ranks that are still saving.
set -u

rank=${RANK:-${SLURM_PROCID:?start this with srun, torchrun or deepspeed}}
exec >>"$MIFIRST_LOGS/rank-$rank.log" 2>&1

"$@" &
program=$!
trap 'heard=1; kill -TERM "$program" 2>/dev/null' TERM
trap 'heard=1; kill -USR1 "$program" 2>/dev/null' USR1

heard=1
while ((heard)); do # a signal ends `wait` early
    heard=0
    wait "$program"
    code=$?
    ((code < 0)) && code=143 # bash has lost it to a signal
    kill -0 "$program" 2>/dev/null && heard=1
done

if ((code != 0)); then
    echo "$code ${SLURMD_NODENAME:-$HOSTNAME}" >"$MIFIRST_LOGS/exit-$rank"
fi
((code == 75)) && code=0
exit "$code"
