#!/bin/bash
# A sweep or a suite as a Slurm array: every task is a worker with one GPU, that takes trainings until none is left.
#   sbatch docs/cluster/slurm_array.sh sweeps/lora_rank_lr.yaml
#   sbatch docs/cluster/slurm_array.sh suites/lora_rank.yaml suite
# Before: queue them once, on the login node:  fashion-ml sweep SPEC --workers 0  (fashion-ml suite SPEC --workers 0)
# In the environment of both: FASHION_ML_STORAGE (a PostgreSQL URL) and MLFLOW_TRACKING_URI (a server).
# The folder it is submitted from holds the data and outputs/, and must be on a file system that all nodes share: a trial that a lost node
# leaves is then gone on with from its checkpoint; on local disks it begins again.
#SBATCH --job-name=fashion-ml-sweep
#SBATCH --array=0-7
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
#SBATCH --output=sweep_%A_%a.log
set -euo pipefail

spec=${1:?usage: sbatch slurm_array.sh SPEC [sweep|suite]}
kind=${2:-sweep}
source .venv/bin/activate
# exec, so that Slurm's SIGTERM two minutes before the end reaches the worker: it saves its training and gives the trial back
exec fashion-ml "$kind-worker" "$spec" --worker "$SLURM_ARRAY_TASK_ID"
