#!/bin/sh
# Redo the CUDA half of the reference study with random weights, in one go: traces, and the tables made of them.
#
#     sh analysis/run_on_gpu.sh [FOLDER]
#
# Needs gemma-trace[capture] and a CUDA device; no network, no token. It goes on where it stopped if it is run again.
# What doesn't fit into the device (27b in float32 takes 108 GB) is refused, recorded, and leaves its rows out. Whatever
# fails, the rest is done; what failed first is said at the end, and the exit code is 1.
set -u

here=$(dirname "$0")
out=${1:-traces/study-cuda}
tables=$out/tables
first=
mkdir -p "$tables" || exit 1

attempt() {
	gemma-trace "$@" && return
	[ -n "$first" ] || first="gemma-trace $*"
}

gemma-trace doctor --output "$tables/doctor.txt" --force
attempt sweep "$here/study_cuda.toml" --out-dir "$out" --output "$tables/ttft.txt" --force
attempt summarize "$out" --style study --format markdown --output "$tables/study.md" --force
attempt summarize "$out" --format csv --output "$tables/summary.csv" --force
for run in "$out"/*-cuda-*/; do
	ls "$run"*.pt.trace.json.gz >/dev/null 2>&1 || continue
	name=$(basename "$run")
	attempt stages "$run" --why --format markdown --output "$tables/stages-$name.md" --force
	attempt kernels "$run" --by family --format markdown --output "$tables/families-$name.md" --force
done
ls -l "$tables" "$out"/*/*.gz
if [ -n "$first" ]; then
	echo "not all was done; the first that failed: $first; cells that failed are in $out/sweep.json" >&2
	exit 1
fi
