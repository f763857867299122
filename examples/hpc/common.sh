# shellcheck shell=bash
# What the PBS and Slurm jobs share: reading the job file, finding Node, running one segment, deciding whether to go on.

fail() {
  echo "mirastral job: $*" >&2
  exit 1
}

# Reads the job file and makes Node available. REPOSITORY is the clone that this file lies in.
prepare() {
  : "${JOB_FILE:?submit the job with JOB_FILE set to your job file, see examples/hpc/README.md}"
  [[ -r $JOB_FILE ]] || fail "JOB_FILE must be a readable file, got $JOB_FILE"
  MODEL='' OUT='' DATA=() ARGS=() MAX_SEGMENTS=100 NODE_MODULE='' NODE_DIR=''
  # shellcheck source=examples/hpc/job.example.sh
  source "$JOB_FILE"
  [[ -n $OUT ]] || fail "OUT must be set in $JOB_FILE"
  SEGMENT=${SEGMENT:-1}

  if [[ -n $NODE_MODULE ]]; then
    module load "$NODE_MODULE"
  elif [[ -n $NODE_DIR ]]; then
    PATH="$NODE_DIR/bin:$PATH"
  fi
  command -v node > /dev/null || fail 'node is not found; set NODE_MODULE or NODE_DIR in the job file'
  node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
    fail "Node must be at least 20.19, got $(node --version)"

  # Compute nodes have no internet: everything was fetched by prefetch.sh.
  export HF_HUB_OFFLINE=1
  if [[ -z ${FINETUNE+set} ]]; then
    [[ -d $REPOSITORY/packages/trainer/dist ]] || fail 'not built yet; run examples/hpc/prefetch.sh on the login node'
    FINETUNE=(node --no-warnings --loader ts-node/esm examples/finetune.ts)
  fi
}

arguments() {
  RUN_ARGS=(--out "$OUT")
  [[ -n $MODEL ]] && RUN_ARGS+=(--model "$MODEL")
  local folder
  for folder in ${DATA[@]+"${DATA[@]}"}; do RUN_ARGS+=(--data "$folder"); done
  RUN_ARGS+=(${ARGS[@]+"${ARGS[@]}"})
}

STOPPED_BY=''

forward() {
  STOPPED_BY=$1
  echo "mirastral job: $1 received, the run saves and stops"
  kill -s "$1" "$CHILD" 2> /dev/null || true
}

# Runs the fine-tune until it ends; signals of the scheduler reach it. Sets EXIT_CODE.
run_segment() {
  arguments
  cd "$REPOSITORY" || fail "cannot enter $REPOSITORY"
  echo "mirastral job: segment $SEGMENT of at most $MAX_SEGMENTS in $OUT on $(hostname)"
  # In the background, because bash handles a signal only after a foreground command has ended.
  "${FINETUNE[@]}" "${RUN_ARGS[@]}" &
  CHILD=$!
  trap 'forward TERM' TERM
  trap 'forward INT' INT
  trap 'forward USR1' USR1
  while true; do
    EXIT_CODE=0
    wait "$CHILD" || EXIT_CODE=$?
    # A signal ends the wait but not the child, which is waited for again.
    kill -0 "$CHILD" 2> /dev/null || break
  done
  trap - TERM INT USR1
}

# Prints one field of results/status.json, or nothing if there is none.
status_field() {
  node -e '
    try {
      console.log(JSON.parse(require("node:fs").readFileSync(process.argv[1], "utf8"))[process.argv[2]])
    } catch {}' "$OUT/results/status.json" "$1"
}

# Calls "$@" (which submits the next segment) if the run was stopped in time and has more to do.
continue_with() {
  local status step
  status=$(status_field status)
  step=$(status_field step)
  if [[ $EXIT_CODE -ne 0 ]]; then
    fail "the run failed with exit code $EXIT_CODE; not submitted again"
  elif [[ $status == finished ]]; then
    echo "mirastral job: finished at step $step; nothing more to submit"
  elif [[ $status != stopped ]]; then
    fail "the run ended without saying how (status '$status'); not submitted again"
  elif [[ $STOPPED_BY == TERM || $STOPPED_BY == INT ]]; then
    echo "mirastral job: cancelled at step $step, saved; submit it again to go on"
  elif [[ $SEGMENT -ge $MAX_SEGMENTS ]]; then
    fail "segment $SEGMENT was the last one allowed (MAX_SEGMENTS) and step $step is not the end"
  elif [[ $step == "${LAST_STEP:-}" && ${LAST_STANDSTILL:-} == yes ]]; then
    fail "two segments in a row did not get beyond step $step; give the job more time"
  else
    local standstill=no
    [[ $step == "${LAST_STEP:-}" ]] && standstill=yes
    echo "mirastral job: step $step is saved, submitting segment $((SEGMENT + 1))"
    SEGMENT=$((SEGMENT + 1)) LAST_STEP=$step LAST_STANDSTILL=$standstill "$@"
  fi
}
