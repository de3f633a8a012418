#!/bin/sh
# Redo the CUDA half of the reference study with random weights, in one go: traces, and the tables made of them.
#
#     sh analysis/run_on_gpu.sh [FOLDER]
#
# Needs gemma-trace[capture] and a CUDA device; no network, no token. It goes on where it stopped if it is run again.
# What doesn't fit into the device (27b in float32 takes 108 GB) is refused, recorded, and leaves its rows out.
set -eu

here=$(dirname "$0")
out=${1:-traces/study-cuda}
tables=$out/tables
mkdir -p "$tables"

gemma-trace doctor --output "$tables/doctor.txt" --force || true
gemma-trace sweep "$here/study_cuda.toml" --out-dir "$out" --output "$tables/ttft.txt" --force ||
	echo "some cells failed, see $out/sweep.json" >&2

gemma-trace summarize "$out" --style study --format markdown --output "$tables/study.md" --force
gemma-trace summarize "$out" --format csv --output "$tables/summary.csv" --force
for run in "$out"/*-cuda-*/; do
	name=$(basename "$run")
	gemma-trace stages "$run" --why --format markdown --output "$tables/stages-$name.md" --force
	gemma-trace kernels "$run" --by family --format markdown --output "$tables/families-$name.md" --force
done
ls -l "$tables" "$out"/*/*.gz
