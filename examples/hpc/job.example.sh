# shellcheck shell=bash disable=SC2034
# Settings of one fine-tune on a cluster. Copy this file, change it, and name the copy as JOB_FILE when you submit.

# The base model: a folder, or owner/name[@revision] of the Hugging Face Hub, fetched by prefetch.sh. Empty: the small sample model.
MODEL=''

# Folders and files of conversations. None: the sample conversations.
DATA=()

# Where everything goes; on a file system that all nodes see.
OUT="$HOME/mirastral-runs/first"

# Further options of examples/finetune.ts, the time budget in minutes among them.
ARGS=(--budget-minutes 51 --save-steps 50)

# At most this many jobs follow each other.
MAX_SEGMENTS=100

# Node 20.19 or newer: a module of the cluster, or a folder into which the archive from nodejs.org was unpacked.
NODE_MODULE=''
NODE_DIR=''

# Where downloaded models are kept; on a file system that all nodes see.
export HF_HOME="$HOME/.cache/huggingface"
