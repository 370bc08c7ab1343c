//! Every fuzz target on its seeds, on hundreds of mutations of them that are the same in every run,
//! and on the inputs that once broke it. The fuzzer itself is in `tests/fuzz`.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use sanderling_conformance::fuzz::{TARGETS, Target};
use sanderling_conformance::fuzz_seeds::seeds;
use sanderling_conformance::here;

/// Mutations of a target; fewer where one input takes a millisecond.
const MUTATIONS: usize = 400;
/// What the mutations of one target may take; a slow machine does fewer.
const TIME: Duration = Duration::from_secs(2);
/// The slowest that one input may be; an input that takes longer stalls whoever loads it.
const SLOWEST: Duration = Duration::from_secs(30);

/// `SANDERLING_FUZZ_SECONDS=60` looks further than every run does.
fn effort() -> (usize, Duration) {
    let seconds = std::env::var("SANDERLING_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    seconds.map_or((MUTATIONS, TIME), |seconds| (usize::MAX, Duration::from_secs(seconds)))
}

/// SplitMix64: the same numbers in every run.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        *[0, 1, 0x7F, 0x80, 0xFF, b'0', b'9', b'-', b'"', b'\n', b',', self.next() as u8]
            .get(self.below(12))
            .unwrap_or(&0)
    }

    /// A place to change: half of the time near the start, where headers and lengths are.
    fn place(&mut self, len: usize) -> usize {
        let near = if self.next().is_multiple_of(2) { len.min(64) } else { len };
        self.below(near)
    }
}

/// One change: a flipped bit, a set byte, a cut, a left-out or repeated or moved piece, a piece of
/// another seed, or a number in place of a length.
fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], draw: &mut Draw) {
    if bytes.is_empty() {
        bytes.push(draw.byte());
        return;
    }
    let at = draw.place(bytes.len());
    let len = 1 + draw.below((bytes.len() - at).min(64));
    match draw.below(9) {
        0 => bytes[at] ^= 1 << draw.below(8),
        1 => bytes[at] = draw.byte(),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..at + len)),
        4 => {
            let piece = bytes[at..at + len].to_vec();
            let to = draw.below(bytes.len());
            bytes.splice(to..to, piece);
        }
        5 => {
            let other = &others[draw.below(others.len())];
            let from = draw.below(other.len());
            let piece = other[from..(from + len).min(other.len())].to_vec();
            bytes.splice(at..at + len, piece);
        }
        6 => {
            let number =
                [0u64, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 40, u64::MAX][draw.below(9)];
            let width = [1, 2, 4, 8][draw.below(4)];
            let end = (at + width).min(bytes.len());
            bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
        }
        7 => number_in_text(bytes, at, draw),
        _ => {
            let piece: Vec<u8> = (0..draw.below(8)).map(|_| draw.byte()).collect();
            bytes.splice(at..at, piece);
        }
    }
}

/// Replaces the first number in text after `at`.
fn number_in_text(bytes: &mut Vec<u8>, at: usize, draw: &mut Draw) {
    let Some(from) = bytes[at..].iter().position(u8::is_ascii_digit).map(|from| at + from) else { return };
    let digits = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let texts = ["0", "-1", "65536", "4294967296", "18446744073709551615", "1e39", "1e-400", "0.1", "null"];
    let text = texts[draw.below(texts.len())];
    bytes.splice(from..from + digits, text.bytes());
}

thread_local! {
    /// Whether this thread panicked, even where the panic was caught.
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// Notes every panic from now on.
fn watch_panics() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICKED.set(true);
            before(info);
        }));
    });
}

/// Runs one input and gives whether it was accepted; on a panic of our own, caught or not, or past [`SLOWEST`]
/// the input is kept and named.
fn run(name: &str, target: Target, input: &[u8]) -> bool {
    let start = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    let took = start.elapsed();
    match outcome {
        Ok(accepted) if !PANICKED.get() && took < SLOWEST => accepted,
        _ => {
            let kept = keep(name, input);
            panic!("{name} broke or took {took:?}; the input is kept in {}", kept.display());
        }
    }
}

fn keep(name: &str, input: &[u8]) -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
    std::fs::write(&kept, input).expect("the input can be kept");
    kept
}

fn replay(name: &str) {
    watch_panics();
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).expect("the target is known");
    let seeds = seeds(name);
    for (at, seed) in seeds.iter().enumerate() {
        assert!(run(name, target, seed), "seed {at} of {name} is refused");
    }
    for crasher in crashers(name) {
        run(name, target, &std::fs::read(crasher).expect("a crasher can be read"));
    }
    for input in kept(name) {
        run(name, target, &input);
    }
    let mut draw = Draw(name.bytes().fold(1, |sum, byte| sum * 31 + u64::from(byte)));
    let start = Instant::now();
    let (mutations, time) = effort();
    for _ in 0..mutations {
        let mut input = seeds[draw.below(seeds.len())].clone();
        for _ in 0..=draw.below(3) {
            mutate(&mut input, &seeds, &mut draw);
        }
        if mutations > MUTATIONS {
            // Whatever ends the whole process leaves its input behind.
            keep(&format!("{name}-last"), &input);
        }
        run(name, target, &input);
        if start.elapsed() > time {
            return;
        }
    }
}

/// Inputs that once broke a target, in name order.
fn crashers(name: &str) -> Vec<PathBuf> {
    let Ok(folder) = std::fs::read_dir(here().join("fuzz/crashers").join(name)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.sort();
    files
}

/// What a fuzzer found worth keeping, as `examples/fuzz_keep.rs` packs it.
fn kept(name: &str) -> Vec<Vec<u8>> {
    let Ok(file) = std::fs::read(here().join(format!("fuzz/kept/{name}.zst"))) else { return Vec::new() };
    let packed = zstd::decode_all(&file[..]).expect("the kept corpus is compressed");
    let (mut rest, mut inputs) = (&packed[..], Vec::new());
    while let Some((len, behind)) = rest.split_first_chunk() {
        let (input, next) = behind.split_at(u32::from_le_bytes(*len) as usize);
        inputs.push(input.to_vec());
        rest = next;
    }
    assert!(rest.is_empty() && !inputs.is_empty(), "the kept corpus of {name} is whole");
    inputs
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_is_replayed_and_has_a_fuzzer() {
            let replayed = [$(stringify!($name)),*];
            assert_eq!(TARGETS.map(|(name, _)| name).to_vec(), replayed);
            for name in replayed {
                assert!(here().join(format!("fuzz/fuzz_targets/{name}.rs")).is_file(), "{name} has no fuzzer");
            }
        }
    };
}

replays! { baseline bundle container content csv encoder features items jsonl manifest neighbours npy recipe report request segments session signature trees vocabulary }
