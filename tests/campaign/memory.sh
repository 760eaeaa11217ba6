#!/usr/bin/env bash
# How much memory, and how long, it takes to score a model of 1.5 billion numbers against its original: block by
# block in 3 GB, then whole. Makes the model, so it needs numpy, 6 GB of disk, and for the second run 15 GB of memory.
#
#     tests/campaign/memory.sh COMPRESS PLACE TOKENIZER_FOLDER TEXT [WINDOWS CTX]
set -euo pipefail
compress=$(realpath "$1") place=$2 tokenizer=$3 text=$4 windows=${5:-4} ctx=${6:-512}
here=$(dirname "$0")

mkdir -p "$place"
[ -d "$place/original" ] || "${PYTHON:-python3}" "$here/make_model.py" "$place/original" "$tokenizer"
[ -d "$place/cut" ] || "$compress" run svd "$place/original" --keep 0.9 --no-evaluate --quiet -o "$place/cut"
# What a text takes to be cut into tokens is no part of this.
head -c $((windows * ctx * 40)) "$text" > "$place/text.txt"
for memory in 3GB 20GB; do
    echo "--memory $memory"
    /usr/bin/time -v "$compress" evaluate "$place/cut" --against "$place/original" --text "$place/text.txt" \
        --ctx "$ctx" --windows "$windows" --memory "$memory" 2> "$place/stderr"
    grep -o "whole models would.*\|Maximum resident.*\|Elapsed.*\|User time.*\|System time.*" "$place/stderr"
done
