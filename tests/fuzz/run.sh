#!/usr/bin/env bash
# Builds one fuzz target with coverage and runs it: run.sh TARGET SECONDS [libFuzzer options]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${1:?a target; see README.md}
seconds=${2:?how many seconds}
shift 2

cache=${SANDERLING_CACHE:-$HOME/.cache/sanderling}
host=$(rustc -vV | sed -n 's/^host: //p')
flags="--cfg fuzzing -Cpasses=sancov-module"
for flag in level=4 inline-8bit-counters pc-table trace-compares; do
  flags="$flags -Cllvm-args=-sanitizer-coverage-$flag"
done

(cd "$here/../.." && cargo run --quiet -p sanderling-conformance --example fuzz_seeds -- "$here/corpus")
# With --target, build scripts and macros are not instrumented.
(cd "$here" && CARGO_TARGET_DIR=$cache/target-fuzz RUSTFLAGS=$flags \
  cargo build --release --target "$host" --bin "$target")
mkdir -p "$here/artifacts/$target"
exec "$cache/target-fuzz/$host/release/$target" "$here/corpus/$target" \
  -artifact_prefix="$here/artifacts/$target/" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
  -max_len=131072 -print_final_stats=1 "$@"
