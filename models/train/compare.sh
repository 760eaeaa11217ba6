#!/usr/bin/env bash
# Trains all networks from scratch, one after the other, and prints their table. Runs that are done are skipped, one that
# was killed goes on: the same command again is always right.
#
#   models/train/compare.sh RUNS TOKENIZER TEXT...
#
# RUNS is a folder for the runs, TOKENIZER one that has a tokenizer.json of 512 tokens. Settings, with what they are
# otherwise: STEPS=1300, SEEDS="1 2", PROGRAM=a compress-train that is built already.
set -euo pipefail

[ $# -ge 3 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
runs=$1 tokenizer=$2
shift 2

program=(cargo run --quiet --release -p compress-train --)
[ -z "${PROGRAM:-}" ] || program=("$PROGRAM")

mkdir -p "$runs"
# All of a seed before the next: there is a whole table as early as may be.
for seed in ${SEEDS:-1 2}; do
    for attention in dense masa-qkv grouped low-rank sequential repeated masa-qkvo; do
        "${program[@]}" from-scratch "$attention" --steps "${STEPS:-1300}" --seed "$seed" --tokenizer "$tokenizer" \
            -o "$runs/$attention-$seed" "$@"
    done
done
"${program[@]}" figures "$runs" --svg "$runs/curves.svg"
