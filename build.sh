#!/usr/bin/env bash
# Builds, tests and shows everything. Run `./build.sh help` for the steps.
# Each step can be called alone, does what it needs first, and takes seconds when nothing changed.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$ROOT"
# shellcheck source=.ci/versions
source .ci/versions

CACHE=${SANDERLING_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sanderling}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
WASM_TARGET_DIR=$CACHE/target-wasm
TOOLS=$CACHE/tools
CACHE_MARKER=.sanderling-cache
OUT=$ROOT/build
STAMPS=$OUT/stamps
WASM_OUT=$ROOT/www/pkg/wasm
WASM_TEST_OUT=$OUT/wasm-operations
EDGE_COMPONENT=$OUT/sanderling-edge.wasm
export SANDERLING_COMPONENT=$EDGE_COMPONENT
# .ci/run sets this: a build that would change Cargo.lock is then an error.
LOCKED=${SANDERLING_LOCKED:+--locked}

say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }
note() { printf '   %s\n' "$*"; }
die() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }
have() { type -P "$1" >/dev/null; } # programs, not functions of this script

help() {
  cat <<'TEXT'
./build.sh STEP [ARGUMENTS]

  setup    find or install the tools: wasm toolchain, npm packages, Chromium, Firefox
  wasm     build sanderling-wasm into www/pkg/wasm and sanderling-edge into build/sanderling-edge.wasm
  npm      compile the npm package and pack it into build/sanderling-<version>.tgz
  demo     run the whole loop on a generated world and show the shop; --once: do not stay up
  test     lint, then every test: native, wasmtime, Node, Deno, Bun, Chromium, Firefox where it is found, workerd
  lint     rustfmt, clippy, rustdoc, shellcheck, cargo-deny
  bench    sizes of the downloads and latency in a browser; bench quality: what bundles reach on the data of
           SANDERLING_DATA; bench training: against PyTorch and numpy (SANDERLING_PEER_PYTHON);
           bench pipeline: time and memory of reading many interactions; bench runtime: against ONNX Runtime and tfjs;
           bench serve: `sanderling serve` against the engine in a loop; bench telemetry: false alarms and power of the
           drift verdict, throughput of the collector; bench loop: tastes change, and the loop follows without a hand
  all      setup, wasm, npm, test, bench
  clean    remove what the steps made in this clone, except node_modules; --cache: also the folder
           of compiled dependencies and tools that all clones share, if build.sh made it

Environment: SANDERLING_CACHE (where compiled dependencies live), CARGO_TARGET_DIR (where native builds
go), SANDERLING_DATA (data folders for tests), SANDERLING_CHROMIUM and SANDERLING_FIREFOX (browsers to use
instead of those that are found).
TEXT
}

# ---- up to date or not: content hashes, because clones and checkouts change times ----

hash_of() { # paths... -> one hash over names and contents of all files below them
  find "$@" \( -name node_modules -o -name target \) -prune -o -type f -print0 |
    sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1
}

is_current() { # name, hash, outputs... : the stamp has this hash and every output exists
  local stamp=$STAMPS/$1 hash=$2 output is_there=yes
  shift 2
  for output in "$@"; do [[ -e $output ]] || is_there=; done
  if [[ -n $is_there && -f $stamp && $(<"$stamp") == "$hash" ]]; then return; fi
  # It is made anew, and half of that may be there when it fails.
  rm -f "$stamp"
  return 1
}

set_current() { # name, hash
  mkdir -p "$STAMPS"
  printf '%s\n' "$2" >"$STAMPS/$1"
}

# ---- folders that clones share ----

# Cargo judges freshness by time and names a path crate by its place in the workspace: what another
# clone built later into the same folder would pass for this clone's. So a file in the folder names
# the clone that built last, and a clone that finds another name there makes its sources new.
claim_target() { # target folder, file descriptor that holds the lock until this script ends
  local target=$1 fd=$2 owner=$1/.sanderling-clone
  mkdir -p "$target"
  if have flock; then
    # Shared by the runs of one clone; another clone waits until all of them have ended.
    eval "exec $fd>>\"\$target/.sanderling-lock\""
    flock -s "$fd"
  fi
  until [[ -f $owner && $(<"$owner") == "$ROOT" ]]; do
    if have flock && ! flock -n -x "$fd"; then
      note "waiting: $(cat "$owner" 2>/dev/null || echo another clone) is building into $target"
      flock -x "$fd"
    fi
    [[ ! -f $owner ]] || note "$target was built by another clone: the workspace's own crates are built again"
    find crates tests Cargo.toml Cargo.lock \( -name target -o -name node_modules \) -prune -o -type f -exec touch {} +
    printf '%s\n' "$ROOT" >"$owner"
    if have flock; then flock -s "$fd"; fi
  done
}

CLAIMED=
claim_targets() { # before the first cargo command of a run
  [[ -z $CLAIMED ]] || return 0
  make_cache
  claim_target "$CARGO_TARGET_DIR" 8
  claim_target "$WASM_TARGET_DIR" 9
  CLAIMED=1
}

# What outlives this script, such as a compiler cache's server, must not keep the locks.
cargo() { command cargo "$@" 8>&- 9>&-; }

make_cache() { # only a folder that is made here, or was empty, is marked as one that may be removed
  if [[ ! -d $CACHE || -z $(ls -A "$CACHE") ]]; then
    mkdir -p "$CACHE"
    printf 'Made by build.sh; "./build.sh clean --cache" removes this folder.\n' >"$CACHE/$CACHE_MARKER"
  fi
}

# ---- installing ----

as_root() {
  if [[ $(id -u) == 0 ]]; then "$@"; elif have sudo && sudo -n true 2>/dev/null; then sudo "$@"; else return 1; fi
}

APT_UPDATED=
apt_install() { # packages... ; fails quietly where there is no apt or no right to use it
  have apt-get || return 1
  if [[ -z $APT_UPDATED ]]; then
    as_root apt-get update -qq >/dev/null || return 1
    APT_UPDATED=1
  fi
  note "installing Debian packages: $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

version_at_least() { # found, wanted
  [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1) == "$2" ]]
}

check_rust() {
  have cargo || apt_install cargo-web rustc-web || die "cargo was not found; install Rust $RUST_MIN or newer"
  local found
  found=$(rustc --version | cut -d' ' -f2)
  version_at_least "$found" "$RUST_MIN" || die "rustc $found is too old; Rust $RUST_MIN or newer is needed"
  # Compression, SQLite and signatures bring C of their own.
  have cc || apt_install gcc libc6-dev || die "no C compiler was found; install gcc or clang"
  note "rustc $found, $(cc --version | head -n 1)"
}

check_node() {
  have node && have npm || apt_install nodejs npm || die "node and npm were not found; install Node $NODE_MIN or newer"
  local found
  found=$(node --version)
  version_at_least "${found#v}" "$NODE_MIN" || die "node $found is too old; Node $NODE_MIN or newer is needed"
  note "node $found, npm $(npm --version)"
}

# ---- wasm toolchain ----

has_wasm_sysroot() { [[ -d $(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown/lib ]]; }

has_debian_wasm() {
  [[ -x /usr/bin/cargo && -x /usr/bin/rustc ]] && have "wasm-ld-$DEBIAN_LLD" &&
    [[ -d $(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/std ]] &&
    version_at_least "$(/usr/bin/rustc --version | cut -d' ' -f2)" "$RUST_MIN"
}

WASM_TOOLCHAIN=
find_wasm_toolchain() { # what is there is used before anything is installed
  if has_wasm_sysroot; then
    WASM_TOOLCHAIN=sysroot
  elif has_debian_wasm; then
    WASM_TOOLCHAIN=debian
  else
    return 1
  fi
}

require_wasm_toolchain() {
  find_wasm_toolchain && return
  if have rustup; then
    note "rustup target add wasm32-unknown-unknown"
    timeout 300 rustup target add wasm32-unknown-unknown >/dev/null 2>&1 || note "rustup could not add the target"
    find_wasm_toolchain && return
  fi
  # shellcheck disable=SC2086 # a list of packages
  apt_install $DEBIAN_WASM_PACKAGES || true
  find_wasm_toolchain || die "no wasm32-unknown-unknown toolchain. Any one of these helps:
  1. rustup target add wasm32-unknown-unknown
  2. a Rust installation whose sysroot contains lib/rustlib/wasm32-unknown-unknown
  3. on Debian or Ubuntu, as root: apt-get install $DEBIAN_WASM_PACKAGES"
}

# Flags for the target are in .cargo/config.toml, which RUSTFLAGS would hide. A trap in wasm tells nobody where it was, so places in
# sources, with the paths of the machine that builds, are left out: three kilobytes of a page's download. The compiler calls
# that option unstable.
WASM_CONFIG='target.wasm32-unknown-unknown.rustflags=["-Zlocation-detail=none"]'
cargo_wasm() { # cargo arguments...
  case $WASM_TOOLCHAIN in
    sysroot)
      env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR="$WASM_TARGET_DIR" RUSTC_BOOTSTRAP=1 \
        cargo "$@" --config "$WASM_CONFIG" 8>&- 9>&-
      ;;
    debian)
      env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u RUSTC_WRAPPER CARGO_TARGET_DIR="$WASM_TARGET_DIR" \
        RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="wasm-ld-$DEBIAN_LLD" \
        /usr/bin/cargo "$@" --config "$WASM_CONFIG" -Zbuild-std=std,panic_abort 8>&- 9>&-
      ;;
  esac
}

wasm_toolchain_version() {
  case $WASM_TOOLCHAIN in
    sysroot) rustc --version ;;
    debian) /usr/bin/rustc --version ;;
  esac
}

# ---- browsers ----

find_browser() { # variable that names one or is set to it, programs...
  local variable=$1 name
  shift
  for name in "${!variable:-}" "$@"; do
    if [[ -n $name ]] && have "$name"; then
      export "$variable=$(command -v "$name")"
      return
    fi
  done
  return 1
}

find_chromium() { find_browser SANDERLING_CHROMIUM chromium chromium-browser google-chrome-stable google-chrome; }

find_firefox() { find_browser SANDERLING_FIREFOX firefox-esr firefox; }

# ---- steps ----

step_setup() {
  say "setup"
  make_cache
  check_rust
  check_node
  require_wasm_toolchain
  note "wasm toolchain: $WASM_TOOLCHAIN ($(wasm_toolchain_version))"
  if find_chromium || { apt_install chromium && find_chromium; }; then
    note "browser: $SANDERLING_CHROMIUM"
  else
    note "browser: none; \`demo\` measures in Node instead, \`test\` needs one"
  fi
  if find_firefox || { apt_install firefox-esr && find_firefox; }; then
    note "second browser: $SANDERLING_FIREFOX"
  else
    note "second browser: none; \`test\` leaves Firefox out"
  fi
  node_packages www
}

node_packages() { # folder
  local folder=$1 name=npm-${1//\//-} hash
  hash=$(hash_of "$folder/package.json" "$folder/package-lock.json")
  if is_current "$name" "$hash" "$folder/node_modules"; then
    note "npm packages of $folder: up to date"
  else
    note "npm packages of $folder: installing"
    (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    set_current "$name" "$hash"
  fi
}

step_wasm() {
  [[ -n $WASM_TOOLCHAIN ]] || step_setup
  say "wasm"
  local hash
  hash=$(hash_of Cargo.toml Cargo.lock .cargo crates/sanderling-{types,sketch,kernels,core,tract,wasm,edge} crates/{small-fft,xtask})
  hash="$hash $(wasm_toolchain_version) $WASM_CONFIG"
  if is_current wasm "$hash" "$WASM_OUT"/sanderling_{wasm,full}{_bg.wasm,.js} "$WASM_OUT"/sanderling_{quads,pairs,scalar}_bg.wasm \
    "$WASM_TEST_OUT" "$EDGE_COMPONENT"; then
    note "up to date"
  else
    build_wasm
    set_current wasm "$hash"
  fi
  cat "$OUT/sizes.txt"
}

build_wasm() { # sanderling-wasm with the slim runtime, for four kinds of machine, and with the full one
  local built=$WASM_TARGET_DIR/wasm32-unknown-unknown/wasm
  claim_targets
  local variant
  # The slim runtime for four kinds of machine, and the same with what tests ask of it.
  for variant in wasm quads pairs scalar; do
    build_slim "$variant" "$built/$variant.wasm"
    build_slim "$variant" "$built/$variant-operations.wasm" operations
  done
  note "cargo build: sanderling-wasm, full; sanderling-edge"
  # shellcheck disable=SC2086
  cargo_wasm build $LOCKED --profile wasm --target wasm32-unknown-unknown -p sanderling-wasm -p sanderling-edge \
    --features sanderling-wasm/full
  note "cargo build: xtask"
  # shellcheck disable=SC2086
  cargo build $LOCKED -q -p xtask
  note "bindings and component"
  rm -rf "$WASM_OUT" "$WASM_TEST_OUT"
  mkdir -p "$WASM_OUT" "$WASM_TEST_OUT" "$OUT"
  bind_slim "" "$WASM_OUT"
  bind_slim -operations "$WASM_TEST_OUT"
  "$CARGO_TARGET_DIR/debug/xtask" bindgen --input "$built/sanderling_wasm.wasm" --name sanderling_full --out-dir "$WASM_OUT"
  "$CARGO_TARGET_DIR/debug/xtask" component --input "$built/sanderling_edge.wasm" --output "$EDGE_COMPONENT"
  print_sizes "$WASM_OUT"/sanderling_{wasm,full}{_bg.wasm,.js} "$WASM_OUT"/sanderling_{quads,pairs,scalar}_bg.wasm \
    "$EDGE_COMPONENT" >"$OUT/sizes.txt"
}

build_slim() { # variant, output, feature of sanderling-wasm
  local features=${3:-} flags=()
  case $1 in
    quads | pairs) features=$1${features:+,$features} ;;
    scalar) flags=(--config 'target.wasm32-unknown-unknown.rustflags=["-Ctarget-feature=-simd128"]') ;;
  esac
  note "cargo build: sanderling-wasm, slim, $1${3:+, with $3}"
  # shellcheck disable=SC2086
  cargo_wasm build $LOCKED --profile wasm --target wasm32-unknown-unknown -p sanderling-wasm --features "$features" "${flags[@]}"
  cp "$WASM_TARGET_DIR/wasm32-unknown-unknown/wasm/sanderling_wasm.wasm" "$2"
}

bind_slim() { # ending of the built files, output folder
  local built=$WASM_TARGET_DIR/wasm32-unknown-unknown/wasm variant
  "$CARGO_TARGET_DIR/debug/xtask" bindgen --input "$built/wasm$1.wasm" --name sanderling_wasm --out-dir "$2"
  for variant in quads pairs scalar; do
    "$CARGO_TARGET_DIR/debug/xtask" bindgen --input "$built/$variant$1.wasm" --name sanderling_wasm --out-dir "$OUT/$variant"
    # One script serves all variants of the slim runtime.
    cmp "$OUT/$variant/sanderling_wasm.js" "$2/sanderling_wasm.js" || die "the bindings of $variant.wasm are not those of the others"
    mv "$OUT/$variant/sanderling_wasm_bg.wasm" "$2/sanderling_${variant}_bg.wasm"
    rm -r "${OUT:?}/$variant"
  done
}

print_sizes() { # files... : bytes raw, gzip -9, brotli -q 11
  node --input-type=module - "$@" <<'SCRIPT'
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const row = (name, ...sizes) => console.log(`   ${name.padEnd(28)}${sizes.map((s) => String(s).padStart(12)).join("")}`);
row("bytes", "raw", "gzip", "brotli");
for (const file of process.argv.slice(2)) {
  const bytes = readFileSync(file);
  const params = { [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
  row(basename(file), bytes.length, gzipSync(bytes, { level: 9 }).length, brotliCompressSync(bytes, { params }).length);
}
SCRIPT
}

package_version() { node -p 'require("./www/pkg/package.json").version'; }

step_npm() {
  step_wasm
  say "npm"
  local version tarball hash
  version=$(package_version)
  grep -qx "version = \"$version\"" Cargo.toml || die "www/pkg/package.json has version $version, Cargo.toml another one"
  tarball=$OUT/sanderling-$version.tgz
  hash=$(find www/pkg -path www/pkg/dist -prune -o -name node_modules -prune -o -type f -print0 |
    sort -z | xargs -0 sha256sum | cat - www/package-lock.json | sha256sum | cut -d' ' -f1)
  if is_current npm "$hash" "$tarball" www/pkg/dist; then
    note "up to date: ${tarball#"$ROOT"/}"
    return
  fi
  rm -rf www/pkg/dist
  (cd www && npm run --silent build)
  (cd www/pkg && npm pack --silent --pack-destination "$OUT" >/dev/null)
  set_current npm "$hash"
  note "made ${tarball#"$ROOT"/}, $(stat -c %s "$tarball") bytes"
}

step_demo() {
  step_npm
  say "demo"
  claim_targets
  # shellcheck disable=SC2086
  cargo build $LOCKED --bins
  find_chromium || note "no browser found: latency is measured in Node"
  node www/demo/run.mjs "$@"
}

step_lint() {
  local part
  for part in fmt clippy; do
    cargo "$part" --version >/dev/null 2>&1 || die "cargo $part was not found; rustup component add rustfmt clippy"
  done
  [[ -n $WASM_TOOLCHAIN ]] || step_setup
  claim_targets
  say "rustfmt"
  cargo fmt --all --check
  say "clippy"
  # shellcheck disable=SC2086
  cargo clippy $LOCKED --workspace --all-targets -- -D warnings
  say "rustdoc"
  # shellcheck disable=SC2086
  RUSTDOCFLAGS="-D warnings" cargo doc $LOCKED --workspace --no-deps
  say "shellcheck"
  if have shellcheck || apt_install shellcheck; then shellcheck -x build.sh .ci/run; else note "skipped: not installed"; fi
  say "cargo-deny"
  deny
}

deny() {
  local deny=$TOOLS/bin/cargo-deny
  if have cargo-deny; then deny=$(command -v cargo-deny); fi
  if [[ ! -x $deny && -z ${CI:-} ]]; then
    note "SKIPPED: cargo-deny is not installed; \`cargo install --locked cargo-deny\` takes some minutes, CI does it"
    return
  fi
  if [[ ! -x $deny ]]; then
    note "installing cargo-deny"
    cargo install --quiet --locked --root "$TOOLS" --target-dir "$CACHE/target-tools" "cargo-deny@$CARGO_DENY" &&
      rm -rf "$CACHE/target-tools"
  fi
  "$deny" --log-level error check licenses bans sources
  note "licences, bans and sources: ok"
  if timeout 120 "$deny" --log-level error fetch db >/dev/null 2>&1; then
    "$deny" --log-level error check --disable-fetch advisories
    note "advisories: ok"
  else
    note "advisories: SKIPPED, the advisory database cannot be fetched from here"
  fi
}

step_test() {
  step_npm
  find_chromium || die "the tests need Chromium: install it, or name one in SANDERLING_CHROMIUM"
  # Bundlers, runtimes and linters of others: only the tests need them.
  node_packages tests/js/bundlers
  local runtimes=native,wasmtime,node,deno,bun,chromium,workerd
  if find_firefox; then runtimes+=,firefox; else note "SKIPPED: Firefox is not installed"; fi
  # Only in CI, as one of them is a server; without them their tests say that they are skipped.
  if [[ -n ${CI:-} ]]; then
    have strace || apt_install strace || note "SKIPPED: what is killed at each write; strace is not installed"
    have_postgres || apt_install postgresql || note "SKIPPED: PostgreSQL is not installed"
  fi
  step_lint
  say "cargo test"
  # The default members: with the whole workspace, features differ from `demo` and dependencies build twice.
  # shellcheck disable=SC2086
  SANDERLING_RUNTIMES=$runtimes cargo test $LOCKED --no-fail-fast
  check_onnx
  say "node --test"
  (cd www && npm run --silent check && npm test --silent)
}

have_postgres() { have initdb || compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null; }

# The exported models must mean the same to an independent runtime.
PYTHON_TOOLS=$CACHE/python
python_packages() { # more packages... : onnxruntime, numpy and those, in a virtual environment that clones share
  have python3 || apt_install python3 python3-venv || die "python3 is needed for ONNX Runtime"
  if [[ ! -x $PYTHON_TOOLS/bin/pip ]]; then
    # Debian's python3 has no venv without python3-venv.
    python3 -m venv "$PYTHON_TOOLS" 2>/dev/null ||
      { apt_install python3-venv && python3 -m venv "$PYTHON_TOOLS"; } ||
      die "python3 cannot make a virtual environment; install python3-venv"
  fi
  # Says nothing and asks no registry when they are there.
  "$PYTHON_TOOLS/bin/pip" install --quiet --disable-pip-version-check "onnxruntime==$ONNXRUNTIME" "numpy==$NUMPY" "$@"
}

check_onnx() {
  say "ONNX Runtime"
  python_packages
  # shellcheck disable=SC2086
  cargo build $LOCKED -q -p sanderling-conformance --example ranker_scores
  "$PYTHON_TOOLS/bin/python" tests/python/check_onnx.py tests/golden/v1 "$CARGO_TARGET_DIR/debug/examples/ranker_scores"
}

# bench: latency and download; bench quality: bundles on public data; bench training: against PyTorch and numpy;
# bench pipeline: import, validation and division of made-up interactions; bench telemetry: the drift verdict and the collector.
step_bench() {
  local what=${1:-}
  if [[ $what == runtime ]]; then
    shift
    bench_runtime "$@"
    return
  fi
  if [[ $what == serve ]]; then
    bench_serve
    return
  fi
  if [[ $what == telemetry || $what == loop ]]; then
    shift
    "bench_$what" "$@"
    return
  fi
  if [[ $what == quality || $what == training || $what == pipeline ]]; then
    shift
    step_setup
    say "bench $what"
    claim_targets
    # shellcheck disable=SC2086
    cargo build $LOCKED --bins
    node "tests/bench/$what.mjs" "$@"
    return
  fi
  step_npm
  say "bench"
  claim_targets
  # shellcheck disable=SC2086
  cargo build $LOCKED --bins
  find_chromium || note "no browser found: latency is measured in Node"
  node www/demo/bench.mjs "$@"
}

bench_runtime() { # what it compares with is installed from its own lock file and into the folder of tools
  step_npm
  say "bench runtime"
  python_packages "onnx==$ONNX"
  (cd tests/bench/runtime && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
  claim_targets
  # shellcheck disable=SC2086
  cargo build $LOCKED -q -p sanderling-conformance --example runtime_world
  find_chromium || note "no browser found: only Node is measured"
  SANDERLING_PEER_PYTHON=$PYTHON_TOOLS/bin/python node tests/bench/runtime.mjs "$@"
}

bench_serve() {
  step_wasm
  say "bench serve"
  claim_targets
  # shellcheck disable=SC2086
  cargo build $LOCKED -q --bin sanderling
  # shellcheck disable=SC2086
  cargo build $LOCKED -q -p sanderling-conformance --example runtime_world --example serve_load
  "$CARGO_TARGET_DIR/debug/examples/runtime_world" "$OUT/runtime"
  "$CARGO_TARGET_DIR/debug/examples/serve_load" "$CARGO_TARGET_DIR/debug/sanderling" "$EDGE_COMPONENT" "$OUT/runtime/50000/full"
}

bench_loop() {
  step_npm
  say "bench loop"
  claim_targets
  # shellcheck disable=SC2086
  cargo build $LOCKED --bins
  node tests/bench/loop.mjs "$@"
}

bench_telemetry() {
  say "bench telemetry"
  claim_targets
  # shellcheck disable=SC2086
  cargo build $LOCKED -q --release -p sanderling-collector --examples
  node tests/bench/telemetry.mjs "$@"
}

step_all() {
  step_test
  step_bench "$@"
}

step_clean() {
  say "clean"
  rm -rf "$OUT" www/pkg/dist "$WASM_OUT"
  note "removed build, www/pkg/dist, www/pkg/wasm"
  if [[ ${1:-} == --cache ]]; then
    [[ -e $CACHE ]] || { note "there is no $CACHE"; return; }
    [[ -f $CACHE/$CACHE_MARKER ]] ||
      die "$CACHE was not made by build.sh (it has no $CACHE_MARKER); remove it yourself if it holds nothing else"
    rm -rf "$CACHE"
    note "removed $CACHE"
  else
    note "compiled dependencies and tools stay in $CACHE; --cache removes them too"
  fi
}

# Sourced by its test: functions only.
[[ ${BASH_SOURCE[0]} == "$0" ]] || return 0

step=${1:-help}
[[ $# -eq 0 ]] || shift
case $step in
  setup | wasm | npm | demo | test | lint | bench | all | clean) "step_$step" "$@" ;;
  help | -h | --help) help ;;
  *) help >&2; die "unknown step: $step" ;;
esac
