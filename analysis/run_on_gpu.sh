#!/bin/sh
# Redo the CUDA half of the reference study with random weights, in one go: traces, and the tables made of them.
#
#     sh analysis/run_on_gpu.sh [FOLDER]
#
# Needs a CUDA device with its driver and Python 3.11 or newer. Where there is no gemma-trace it is installed into .venv
# beside this checkout, for which PyPI is asked; PYTHON=… names another Python. The captures need no network and no token.
#
# It goes on where it stopped if it is run again, and tries again what failed. What doesn't fit into the device (27b in
# float32 takes 108 GB) is refused, recorded, and leaves its rows out. Whatever fails, the rest is done; which cell and
# which command failed first is said at the end, and the exit code is 1. At last a CUDA graph with labelled stages is tried.
set -u

here=$(dirname "$0")
root=$here/..
out=${1:-traces/study-cuda}
tables=$out/tables
first=
mkdir -p "$tables" || exit 1

given=${PYTHON:-$(command -v python3.11 || echo python3)}
if command -v gemma-trace >/dev/null 2>&1; then
	program=gemma-trace
	python=$given
else
	program=$root/.venv/bin/gemma-trace
	python=$root/.venv/bin/python
	if [ ! -x "$program" ]; then
		"$given" -m venv "$root/.venv" && "$python" -m pip install --quiet "$root[capture]" || {
			echo "gemma-trace could not be installed into $root/.venv; see above, or put gemma-trace on the PATH" >&2
			exit 1
		}
	fi
fi

attempt() {
	"$program" "$@" && return
	[ -n "$first" ] || first="gemma-trace $*"
}

# Which cells of the sweep failed and why, the first one first.
failed_cells() {
	"$python" - "$out/sweep.json" <<'END'
import json, sys
try:
    with open(sys.argv[1], encoding="utf-8") as record:
        failed = json.load(record)["failed"]
except (OSError, ValueError, KeyError):
    failed = {}
for place, (cell, why) in enumerate(failed.items()):
    print(f"{'the first cell that failed' if not place else 'another one'}: {cell}: {why}")
END
}

attempt doctor --output "$tables/doctor.txt" --force
cat "$tables/doctor.txt" 2>/dev/null
attempt sweep "$here/study_cuda.toml" --retry --out-dir "$out" --output "$tables/ttft.txt" --force
attempt summarize "$out" --style study --format markdown --output "$tables/study.md" --force
attempt summarize "$out" --format csv --output "$tables/summary.csv" --force
for run in "$out"/*-cuda-*/; do
	ls "$run"*.pt.trace.json.gz >/dev/null 2>&1 || continue
	name=$(basename "$run")
	attempt stages "$run" --why --format markdown --output "$tables/stages-$name.md" --force
	attempt kernels "$run" --by family --format markdown --output "$tables/families-$name.md" --force
done
# Stages inside of a CUDA graph, where torch, the driver and cuda-bindings have labels of its nodes.
if [ -f "$here/labelled_graph.py" ]; then
	"$python" "$here/labelled_graph.py" "$out/labelled-graph" || first=${first:-$here/labelled_graph.py}
fi
ls -l "$tables" "$out"/*/*.gz 2>/dev/null
if [ -n "$first" ]; then
	failed_cells >&2
	echo "not all was done; the first command that failed: $first" >&2
	exit 1
fi
