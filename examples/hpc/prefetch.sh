#!/usr/bin/env bash
# Run once on a login node, where there is internet: installs the packages, builds them, downloads the base model, and tries
# everything that a job needs. Compute nodes then need no internet.
#   JOB_FILE=/path/to/job.sh examples/hpc/prefetch.sh
set -euo pipefail

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=examples/hpc/common.sh
source "$REPOSITORY/examples/hpc/common.sh"
cd "$REPOSITORY"

FINETUNE=() # Nothing is built yet.
prepare
unset HF_HUB_OFFLINE

npx -y pnpm@10 run setup
npx -y pnpm@10 run build
if [[ -n $MODEL ]]; then
  node --no-warnings --loader ts-node/esm examples/hpc/fetch-model.ts "$MODEL"
fi
mkdir -p "$OUT"
[[ -w $OUT ]] || fail "OUT must be writable, got $OUT"
echo "ready: submit examples/hpc/run_finetune.pbs or run_finetune.slurm with JOB_FILE=$JOB_FILE"
