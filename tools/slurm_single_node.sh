#!/bin/bash
# A Slurm of one node on this machine, without GPUs, to try `atss-plugin run --launcher slurm --array`.
# Needs root and Debian's packages: apt-get install slurm-wlm munge
#
#   tools/slurm_single_node.sh start DIR    configuration, key, sockets and logs go to DIR; nothing in /etc is touched
#   export SLURM_CONF=DIR/slurm.conf        in the shell that submits
#   tools/slurm_single_node.sh try DIR      start, an array of two short runs, one of them requeued in its midst, stop
#   tools/slurm_single_node.sh stop DIR
set -euo pipefail
action=${1:?start, try or stop} dir=$(realpath -m "${2:?a folder}")
export SLURM_CONF=$dir/slurm.conf
python=${PYTHON:-python}

start() {
    mkdir -p "$dir/state" "$dir/spool" "$dir/log" "$dir/munge"
    chmod 755 "$dir" "$dir/munge"
    [ -f "$dir/munge.key" ] || (umask 077; head -c 1024 /dev/urandom > "$dir/munge.key")
    chmod 400 "$dir/munge.key"
    cat > "$SLURM_CONF" << CONF
ClusterName=single
SlurmctldHost=$(hostname -s)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
ReturnToService=2
JobRequeue=1
KillWait=10
SlurmdParameters=config_overrides
NodeName=$(hostname -s) CPUs=$(nproc) RealMemory=4000 State=UNKNOWN
PartitionName=single Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
CONF
    munged --force --key-file="$dir/munge.key" --socket="$dir/munge/socket" --pid-file="$dir/munge/pid" \
        --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"
    slurmctld -c -f "$SLURM_CONF"
    slurmd -c -f "$SLURM_CONF"
    for _ in $(seq 30); do
        sinfo -h -o %T 2> "$dir/log/sinfo" | grep -q idle && break
        sleep 1
    done
    sinfo
}

stop() {
    for pid in "$dir/slurmd.pid" "$dir/slurmctld.pid" "$dir/munge/pid"; do
        if [ -f "$pid" ]; then kill "$(cat "$pid")" || true; fi
    done
}

try() {
    start
    trap stop EXIT
    export OMP_NUM_THREADS=1
    run=("$python" -m atss_plugin run t4.k3 t4.k5 --launcher slurm --array --partition single --gpus 0 --minutes 20
        --work-dirs "$dir/work_dirs" --overlay miniature.py)
    options=(--cfg-options train_cfg.max_epochs=12 train_cfg.val_interval=6 default_hooks.logger.interval=1
        train_dataloader.dataset.num_images=8 val_dataloader.dataset.num_images=2)
    "${run[@]}" "${options[@]}" | tee "$dir/submitted"
    task=$(head -1 "$dir/submitted" | cut -d ' ' -f 1)
    first="$dir/work_dirs/t4.k3/miniature-seed0"
    echo "Waiting for the second checkpoint of the first task, $task"
    until [ -f "$first/epoch_2.pth" ]; do sleep 1; done
    echo "The signal that Slurm sends before the end of the time"
    scancel --signal=USR2 "$task"
    until [ -z "$(squeue -h)" ]; do squeue -h -o '%i %T %r'; sleep 20; done
    "${run[@]}" --dry-run "${options[@]}"
    grep -h '^=== start' "$first/console.log"
    grep -h 'resumed epoch' "$first/console.log"
}

"$action"
