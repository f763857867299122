#!/usr/bin/env bash
# Tries run_finetune.slurm with a real Slurm: a controller, one node and munge, on this machine, for as long as the test lasts.
# The queue gives a minute to each job, far less than the sample fine-tune needs: Slurm's warning ends each segment, and the
# jobs submit each other until the run is finished. As root, with Debian's packages slurm-wlm and munge; the clone is built.
#   examples/hpc/test-slurm.sh
set -euo pipefail

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
for command in slurmctld slurmd munged sbatch; do
  if ! command -v "$command" > /dev/null; then
    echo "skipped: $command is not installed (apt-get install slurm-wlm munge)"
    exit 0
  fi
done
[[ $(id -u) -eq 0 ]] || { echo 'skipped: needs root'; exit 0; }

WORK=$(mktemp -d)
DAEMONS=()
cleanup() {
  scancel --user root 2> /dev/null || true
  for pid in "${DAEMONS[@]}"; do kill "$pid" 2> /dev/null || true; done
  wait 2> /dev/null || true
  rm -rf "$WORK"
}
trap cleanup EXIT

start() {
  local name=$1
  shift
  "$@" > "$WORK/$name.log" 2>&1 &
  DAEMONS+=("$!")
}

# munged wants its folders for itself, also above them.
chmod 755 "$WORK"
mkdir -p "$WORK/munge" "$WORK/state" "$WORK/spool"
chmod 755 "$WORK/munge"
dd if=/dev/urandom of="$WORK/munge/key" bs=1024 count=1 status=none
chmod 400 "$WORK/munge/key"
start munged munged --foreground --force --key-file="$WORK/munge/key" --socket="$WORK/munge/socket" \
  --pid-file="$WORK/munge/pid" --seed-file="$WORK/munge/seed" --log-file="$WORK/munge/log"

HOST=$(hostname -s)
cat > "$WORK/slurm.conf" << CONF
ClusterName=test
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$WORK/munge/socket
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$WORK/state
SlurmdSpoolDir=$WORK/spool
SlurmctldPidFile=$WORK/slurmctld.pid
SlurmdPidFile=$WORK/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/builtin
SelectType=select/linear
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=10
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=16 RealMemory=65536 State=UNKNOWN
PartitionName=test Nodes=$HOST Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$WORK/slurm.conf"
sleep 1
start slurmctld slurmctld -D -i
start slurmd slurmd -D -N "$HOST"

for _ in $(seq 60); do
  [[ $(sinfo --noheader --format=%t 2> /dev/null) == idle ]] && break
  sleep 1
done
[[ $(sinfo --noheader --format=%t) == idle ]] || { echo 'slurm does not start'; tail -n 5 "$WORK"/*.log; exit 1; }

cat > "$WORK/job.sh" << JOB
OUT=$WORK/run
ARGS=(--epochs 12 --budget-minutes 51 --save-steps 1000)
JOB
# What would be at the top of the job file on a real cluster: a minute of time, and the warning 35 seconds before its end.
export SBATCH_TIMELIMIT=1 SBATCH_SIGNAL=B:USR1@35 SBATCH_OUTPUT="$WORK/job.log" JOB_FILE="$WORK/job.sh"
cd "$REPOSITORY"
sbatch examples/hpc/run_finetune.slurm

for _ in $(seq 600); do
  sleep 2
  [[ -z $(squeue --noheader) ]] && break
done
grep '^mirastral job' "$WORK/job.log" || true
# shellcheck disable=SC2016 # The quotes hold JavaScript.
node -e '
  const { readFileSync } = require("node:fs")
  const lines = readFileSync(process.argv[1] + "/results/segments.jsonl", "utf8").trim().split("\n").map((line) => JSON.parse(line))
  const reasons = lines.filter((line) => line.event === "end").map((line) => line.reason)
  console.log(reasons.map((reason, i) => `segment ${i + 1}: ${reason}`).join("\n"))
  const warned = reasons.slice(0, -1)
  const good = warned.length > 0 && warned.every((r) => r === "stopped: signal SIGUSR1") && reasons.at(-1) === "finished"
  console.log(good ? "ok: the jobs submitted each other until the run was finished" : "not ok")
  process.exit(good ? 0 : 1)
' "$WORK/run" || { tail -n 20 "$WORK/job.log"; exit 1; }
