#!/usr/bin/env bash
# Makes models/shop/1 from a synthetic world: `models/shop/make.sh`, or `--check` to compare with what is there.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
sanderling=${SANDERLING:-${CARGO_TARGET_DIR:-$root/target}/debug/sanderling}
[[ -x $sanderling ]] || { echo "no program at $sanderling: cargo build --bins, or name one in SANDERLING" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$sanderling" synth --seed 1 --users 1500 --items 400 --days 45 --out "$work/world" >&2

case ${1:-} in
  "") out=$here/1 ;;
  --check) out=$work/shop ;;
  *) echo "usage: make.sh [--check]" >&2; exit 2 ;;
esac
"$sanderling" train "$work/world" --recipe "$here/sanderling.toml" --seed 1 --out "$out" --json
if [[ $out != "$here/1" ]]; then
  cmp "$out/manifest.json" "$here/1/manifest.json" >&2
  echo "the same bundle" >&2
fi
