# shellcheck shell=bash
# What the batch scripts of this folder share: they source it, call `begin`, and hand `train` the
# command that starts one rank per device. It needs bash and SLURM's commands, no Python.
#
# Settings, from the environment (`python -m launcher submit` writes them into the script):
#   MIFIRST_PYTHON             interpreter (default: the repository's .venv, else python3)
#   MIFIRST_PREFLIGHT_SECONDS  longest time of the check before training (180); 0 leaves it out
#   MIFIRST_RESTARTS           restarts without a new checkpoint after which the job ends (3)
#   MIFIRST_RUNTIME            pyxis or apptainer, where the ranks run in a container
#   MIFIRST_IMAGE              its image
#   MIFIRST_MOUNTS             folders that it sees besides the working folder: /data,/scratch

run='' # folder of the run
logs='' # folder of this attempt's logs
restart=${SLURM_RESTART_COUNT:-0}
asked='' # why the run was asked to stop
in_step=(srun --kill-on-bad-exit=1) # starts a command once per task of the job

say() { printf '[%(%F %T)T] %s\n' -1 "$*"; }
fail() {
    say "error: $*" >&2
    exit 2
}

# begin ARGUMENTS...: of pretrain/main.py; `--run.directory DIRECTORY` has to be among them.
begin() {
    find_run "$@"
    logs=$run/slurm/logs/$SLURM_JOB_ID.$restart
    mkdir -p "$logs"
    say "job $SLURM_JOB_ID on $SLURM_JOB_NODELIST, attempt $((restart + 1)); logs of ranks: $logs"
    trap 'hear USR1 "wall time"' USR1
    trap 'hear TERM "SIGTERM"' TERM
    if ((restart > 0)) && [[ -e $run/result.json ]]; then
        say "the run is complete"
        exit 0
    fi
    if ! may_restart; then
        record end 1 "gave up"
        fail "$MIFIRST_RESTARTS restarts brought no new checkpoint after step $(newest_step)"
    fi
    record start
    export MIFIRST_LOGS=$logs
    export PYTHONUNBUFFERED=1
    share_cores
    find_python
    find_meeting_point
    enter_container
}

# Give each task its cores, and each rank its share of its task's: torchrun and deepspeed start
# MIFIRST_PROCESSES ranks in one task.
share_cores() {
    local tasks=${SLURM_NTASKS_PER_NODE:-${SLURM_TASKS_PER_NODE:-1}} cores
    tasks=${tasks%%[(,]*} # "2(x3),1" lists tasks per node
    cores=${SLURM_CPUS_PER_TASK:-$((${SLURM_CPUS_ON_NODE:-1} / tasks))}
    ((cores)) || cores=1
    # sbatch's --cpus-per-task does not reach srun by itself from SLURM 22.05 on.
    export SRUN_CPUS_PER_TASK=$cores
    if ((cores < ${MIFIRST_PROCESSES:-1})); then
        say "warning: $MIFIRST_PROCESSES ranks share $cores cores of each node; give --cpus-per-task"
    fi
    cores=$((cores / ${MIFIRST_PROCESSES:-1}))
    ((cores)) || cores=1
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$cores}
}

find_run() {
    local before=''
    for argument in "$@"; do
        [[ $before == --run.directory ]] && run=$argument
        [[ $argument == --run.directory=* ]] && run=${argument#*=}
        before=$argument
    done
    [[ -n $run ]] || fail "give --run.directory DIRECTORY: logs and restarts are kept there"
    # As the program takes it; a shell leaves a tilde behind = alone.
    [[ $run == \~ || $run == \~/* ]] && run=$HOME${run#\~}
    [[ $run != \~* ]] || fail "--run.directory $run: write the path out"
}

find_python() {
    if [[ -z ${MIFIRST_PYTHON:-} ]]; then
        MIFIRST_PYTHON=python3
        [[ -z ${MIFIRST_IMAGE:-} && -x $MIFIRST_ROOT/.venv/bin/python ]] &&
            MIFIRST_PYTHON=$MIFIRST_ROOT/.venv/bin/python
    fi
    export MIFIRST_PYTHON
}

# Ranks meet on the first node, where this script runs, at a port that nobody listens on. The job's
# number keeps two jobs on one node apart that look at the same moment.
find_meeting_point() {
    mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
    MIFIRST_NODES=$(IFS=,; echo "${nodes[*]}")
    MASTER_ADDR=${nodes[0]}
    if ! getent hosts "$MASTER_ADDR" >/dev/null; then # a node's name need not be its host's
        MASTER_ADDR=$(scontrol show node -o "${nodes[0]}" | grep -o ' NodeAddr=[^ ]*')
        MASTER_ADDR=${MASTER_ADDR#*=}
    fi
    MASTER_PORT=$((15000 + SLURM_JOB_ID * 7 % 15000))
    while (: <>"/dev/tcp/127.0.0.1/$MASTER_PORT") 2>/dev/null; do
        MASTER_PORT=$((MASTER_PORT + 1))
    done
    export MIFIRST_NODES MASTER_ADDR MASTER_PORT
}

enter_container() {
    local mounts="$PWD:$PWD,$MIFIRST_ROOT:$MIFIRST_ROOT" mount more
    [[ -n ${MIFIRST_IMAGE:-} ]] || return 0
    IFS=, read -ra more <<<"${MIFIRST_MOUNTS:-}"
    for mount in "${more[@]}"; do
        [[ -n $mount ]] || continue
        [[ $mount == *:* ]] || mount=$mount:$mount
        mounts+=,$mount
    done
    case ${MIFIRST_RUNTIME:-pyxis} in
    pyxis)
        in_step+=(--container-image="$MIFIRST_IMAGE" --container-mounts="$mounts"
            --container-workdir="$PWD")
        ;;
    apptainer)
        in_step+=(apptainer exec --bind "$mounts" --pwd "$PWD")
        [[ -n ${SLURM_GPUS_ON_NODE:-} ]] && in_step+=(--nv)
        in_step+=("$MIFIRST_IMAGE")
        ;;
    *) fail "MIFIRST_RUNTIME is '$MIFIRST_RUNTIME', expected pyxis or apptainer" ;;
    esac
}

# Name a slow or dead node before training starts, and say what everything runs on.
preflight() {
    local seconds=${MIFIRST_PREFLIGHT_SECONDS:-180} code=0
    ((seconds)) || return 0
    # The outer limit counts where a node does not even start its task.
    TORCH_CPP_LOG_LEVEL=FATAL PYTHONPATH=$MIFIRST_ROOT PYTHONSAFEPATH=1 timeout --kill-after 10 $((seconds + 30)) \
        "${in_step[@]}" "$MIFIRST_PYTHON" -m launcher.preflight --seconds "$seconds" &
    await $! || code=$?
    ((code == 0)) && return 0
    [[ -n $asked ]] && finish 75
    say "error: the nodes are not ready for training (code $code); nothing was started"
    nodes_answer || true
    record end "$code" "not ready"
    exit "$code"
}

# train COMMAND...: start the ranks, wait for them, and end this job or put it back into the queue.
train() {
    local code=0
    # Once there are checkpoints of its own, the run goes on from them.
    ((restart > 0)) && (($(newest_step))) && set -- "$@" --checkpoint.resume auto
    # No function in its place: where SLURM sends SIGTERM to all processes of a job, the shell around
    # it would die, and this script would go on before the ranks have saved.
    "${in_step[@]}" "$@" --run.overwrite false &
    step=$!
    tail --lines +1 --sleep-interval 0.5 --pid "$step" -F "$logs/rank-0.log" 2>/dev/null &
    local shown=$!
    await "$step" || code=$?
    await "$shown" || true
    finish "$code"
}

# hear SIGNAL WHY: the run learns of it from a file in its folder, which works under every starter
# and in containers. Written until the run is over: one that has only just begun removes it.
hear() {
    heard=1
    [[ -n $asked ]] && return
    asked=$2
    say "asked to stop: $2"
    [[ $1 == USR1 && -n ${step:-} ]] || return 0
    while kill -0 "$step" 2>/dev/null; do
        echo "$2" >"$run/stop"
        sleep 1
    done &
}

# await PID: its exit code. `wait` returns early when a signal comes.
await() {
    local code=0
    heard=1
    while ((heard)); do
        heard=0
        code=0
        wait "$1" || code=$?
        ((code < 0)) && code=143 # bash has lost it to a signal
        kill -0 "$1" 2>/dev/null && heard=1
    done
    return "$code"
}

# finish CODE: what becomes of the job.
finish() {
    local code=$1 state
    case $(verdict "$code") in
    complete)
        record end 0 complete
        say "complete: $run"
        exit 0
        ;;
    failed)
        show_failures
        # srun and torchrun tell how they ended the other ranks; the first that failed counts.
        read -r _ code _ < <(failures; echo "- $code")
        if ! nodes_answer; then
            asked="a node failed"
        elif ((code == 74)); then
            asked="a rank was lost or stood still"
        else
            record end "$code" failed
            say "failed with exit code $code; not put back into the queue"
            exit "$code"
        fi
        ;;
    esac
    if ! may_restart; then
        record end 1 "gave up"
        say "error: $MIFIRST_RESTARTS restarts brought no new checkpoint after step $(newest_step)"
        exit 1
    fi
    state=$(scontrol show job -o "$SLURM_JOB_ID" || true)
    # Any other state: cancelled, or in the queue again already.
    if [[ $state != *" JobState=RUNNING "* && $state != *" Reason=TimeLimit "* ]]; then
        record end 75 "stopped"
        say "stopped at step $(newest_step) (${asked:-the run was asked to stop})"
        exit 75
    fi
    say "can go on from step $(newest_step) (${asked:-the run was asked to stop}); requeue"
    record end 75 requeued
    if ! scontrol requeue "$SLURM_JOB_ID"; then
        say "error: SLURM does not requeue this job; python -m launcher resubmit $run goes on"
        exit 75
    fi
    exec sleep 60 # SLURM ends it
}

# verdict CODE: complete, stopped (can go on) or failed.
verdict() {
    local first=''
    [[ -e $logs/exit-0 ]] && read -r first _ <"$logs/exit-0"
    if [[ $first == 75 ]]; then
        echo stopped
    elif [[ -n $(failures) ]]; then
        echo failed
    elif (($1 == 0)) && [[ -z $first ]]; then
        echo complete
    elif [[ -n $asked || $first == 138 || $first == 143 ]]; then
        echo stopped
    else
        echo failed
    fi
}

# A line `RANK CODE NODE` for each rank that failed by itself, the first in time first. 138 and 143
# are none: SIGUSR1 or SIGTERM came before there was anything to save.
failures() {
    local file code node
    while read -r file; do
        read -r code node <"$file"
        [[ $code == 75 || $code == 138 || $code == 143 ]] || echo "${file##*-} $code $node"
    done < <(find "$logs" -name 'exit-*' -printf '%T@ %p\n' | sort -n | cut -d ' ' -f 2-)
}

# Name the ranks that failed, and show how the log of the first one ends.
show_failures() {
    local rank code node number=0
    while read -r rank code node; do
        number=$((number + 1))
        if ((number > 8)); then
            say "... and more ranks: $logs/exit-*"
            return
        fi
        say "rank $rank on $node ended with exit code $code: $logs/rank-$rank.log"
        if ((number == 1 && rank)); then
            tail --lines 15 "$logs/rank-$rank.log"
        fi
    done < <(failures)
}

# Whether all nodes answer, asked at the same time; names those that do not.
nodes_answer() {
    local node silent=0 probes=()
    for node in ${MIFIRST_NODES//,/ }; do
        timeout 40 srun --overlap --nodes 1 --ntasks 1 --nodelist "$node" --immediate=20 \
            true >/dev/null 2>&1 &
        probes+=("$!:$node")
    done
    for node in "${probes[@]}"; do
        if ! await "${node%%:*}"; then
            say "node ${node#*:} does not answer"
            silent=1
        fi
    done
    return "$silent"
}

# Step of the newest complete checkpoint; 0 without any. Those that were set aside have other names.
newest_step() {
    local file number newest=0
    for file in "$run"/checkpoints/step-*/manifest.json; do
        [[ -e $file ]] || continue
        number=${file%/manifest.json}
        number=${number##*/step-}
        [[ $number =~ ^[0-9]+$ ]] || continue
        number=$((10#$number))
        ((number > newest)) && newest=$number
    done
    echo "$newest"
}

# Whether this job may start once more: of MIFIRST_RESTARTS restarts in a row, one has brought a
# newer checkpoint.
may_restart() {
    local starts
    MIFIRST_RESTARTS=${MIFIRST_RESTARTS:-3}
    starts=$(grep -c "\"event\":\"start\",\"job\":\"$SLURM_JOB_ID\",\"step\":$(newest_step)," \
        "$run/slurm/attempts.jsonl" 2>/dev/null || true)
    ((${starts:-0} <= MIFIRST_RESTARTS))
}

# record start | record end CODE VERDICT: a line of attempts.jsonl, which launcher/record.py reads.
record() {
    local ending=''
    [[ $1 == end ]] && ending=",\"code\":$2,\"verdict\":\"$3\",\"why\":\"$asked\""
    printf '{"event":"%s","job":"%s","step":%d,"restart":%d,"nodes":"%s","time":"%s"%s}\n' \
        "$1" "$SLURM_JOB_ID" "$(newest_step)" "$restart" "$SLURM_JOB_NODELIST" \
        "$(date +%FT%T%z)" "$ending" >>"$run/slurm/attempts.jsonl"
}
