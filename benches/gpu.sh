#!/usr/bin/env bash
# What the GPU of this machine does: perplexity on it beside the CPU's, and speeds beside PyTorch on the same GPU.
#
#   benches/gpu.sh PROGRAM MODEL TEXT
#
# PROGRAM is the built binary, MODEL a small Hugging Face directory, TEXT to score. PYTHON (python3) wants PyTorch with CUDA,
# transformers and safetensors. The model itself, and random weights in the shapes of four blocks of a model of 7B; figures
# are appended to benches/record/gpu.csv.
set -euo pipefail

[ $# -eq 3 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
here=$(dirname "$0")
run() { "${PYTHON:-python3}" "$here/beside.py" gpu "$@" --record "$here/record/gpu.csv"; }

mkdir -p "$here/record"
"$1" doctor
run "$1" "$2" "$3" --ctx 512 --windows 16
run "$1" "$2" "$3" --ctx 512 --windows 8 --made-up 4096,11008,4
