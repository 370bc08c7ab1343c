//! Runs the program on a small synthetic world.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

/// Small enough to train in about a second.
pub const RECIPE: &str = "name = \"contract\"\n[model]\ndim = 16\nlayers = 1\nheads = 2\nmax_session_len = 20\n\
    num_negatives = 32\nmax_epochs = 2\n";

pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The one JSON object that standard output must be.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "one line, got {:?}; {}", self.stdout, self.stderr);
        let value: Value = serde_json::from_str(&self.stdout).unwrap();
        assert!(value.is_object(), "{value}");
        value
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Asserts exit code 2 and the stable code, both for scripts and for people.
    #[track_caller]
    pub fn expect_error(self, code: &str) -> Value {
        let error = self.expect_json(2)["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        error
    }

    #[track_caller]
    pub fn expect_json(self, code: i32) -> Value {
        let ran = self.expect(code);
        let value = ran.json();
        if code == 2 {
            let error_code = value["error"]["code"].as_str().unwrap();
            assert!(ran.stderr.contains(&format!("({error_code})")), "the line for people: {}", ran.stderr);
        }
        value
    }
}

pub fn sanderling<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Ran {
    sanderling_with(&[], args)
}

pub fn sanderling_with<S: AsRef<std::ffi::OsStr>>(settings: &[(&str, &str)], args: &[S]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_sanderling"))
        .args(args)
        .env_remove("RUST_LOG")
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A command line of words and paths.
macro_rules! run {
    ($($arg:expr),+ $(,)?) => {
        $crate::support::sanderling(&[$(AsRef::<std::ffi::OsStr>::as_ref($arg)),+])
    };
}

/// The world and one bundle of it, made once for all tests.
pub struct World {
    pub dir: TempDir,
    pub trained: Value,
    pub progress: String,
}

impl World {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

pub fn train(world: &Path, more: &[&str], out: &Path) -> Ran {
    let (data, recipe) = (world.join("data"), world.join("recipe.toml"));
    let mut args: Vec<&std::ffi::OsStr> =
        vec!["train".as_ref(), data.as_ref(), "--recipe".as_ref(), recipe.as_ref()];
    args.extend(more.iter().map(|arg| std::ffi::OsStr::new(*arg)));
    args.extend::<[&std::ffi::OsStr; 3]>(["--out".as_ref(), out.as_ref(), "--json".as_ref()]);
    sanderling(&args)
}

pub static WORLD: LazyLock<World> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let made = run!(
        "synth", "--users", "80", "--items", "60", "--days", "20", "--seed", "3", "--out", &data, "--json"
    );
    assert_eq!(made.expect_json(0)["synthetic"], true);
    fs::write(dir.path().join("recipe.toml"), RECIPE).unwrap();
    let ran = train(dir.path(), &["--seed", "5"], &dir.path().join("bundle")).expect(0);
    World { trained: ran.json(), progress: ran.stderr, dir }
});

/// A copy of the bundle that a test may damage.
pub fn copy_of_bundle() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(WORLD.path("bundle")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

pub fn subcommands() -> BTreeSet<String> {
    let help = run!("--help").expect(0).stdout;
    let listed = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let name = |line: &str| line.strip_prefix("  ")?.split_whitespace().next().map(str::to_owned);
    // A continued description is indented further than a name.
    let names = listed.lines().filter(|line| !line.starts_with("   ")).filter_map(name);
    names.filter(|name| name != "help").collect()
}

pub(crate) use run;
