//! What scripts rely on: arguments, exit codes and the JSON of the real program, on a small synthetic world.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use sanderling_train::data::Dataset;
use sanderling_types::{Sha256Hash, TimeKind};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Small enough to train in about a second.
const RECIPE: &str = "name = \"contract\"\n[model]\ndim = 16\nlayers = 1\nheads = 2\nmax_session_len = 20\n\
    num_negatives = 32\nmax_epochs = 2\n";

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// The one JSON object that standard output must be.
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "one line, got {:?}; {}", self.stdout, self.stderr);
        let value: Value = serde_json::from_str(&self.stdout).unwrap();
        assert!(value.is_object(), "{value}");
        value
    }

    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Asserts exit code 2 and the stable code, both for scripts and for people.
    #[track_caller]
    fn expect_error(self, code: &str) -> Value {
        let error = self.expect_json(2)["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        error
    }

    #[track_caller]
    fn expect_json(self, code: i32) -> Value {
        let ran = self.expect(code);
        let value = ran.json();
        if code == 2 {
            let error_code = value["error"]["code"].as_str().unwrap();
            assert!(ran.stderr.contains(&format!("({error_code})")), "the line for people: {}", ran.stderr);
        }
        value
    }
}

fn sanderling<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_sanderling"))
        .args(args)
        .env_remove("RUST_LOG")
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
        sanderling(&[$(AsRef::<std::ffi::OsStr>::as_ref($arg)),+])
    };
}

/// The world and one bundle of it, made once for all tests.
struct World {
    dir: TempDir,
    trained: Value,
    progress: String,
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn train(world: &Path, more: &[&str], out: &Path) -> Ran {
    let (data, recipe) = (world.join("data"), world.join("recipe.toml"));
    let mut args: Vec<&std::ffi::OsStr> =
        vec!["train".as_ref(), data.as_ref(), "--recipe".as_ref(), recipe.as_ref()];
    args.extend(more.iter().map(|arg| std::ffi::OsStr::new(*arg)));
    args.extend::<[&std::ffi::OsStr; 3]>(["--out".as_ref(), out.as_ref(), "--json".as_ref()]);
    sanderling(&args)
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
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
fn copy_of_bundle() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(WORLD.path("bundle")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn subcommands() -> BTreeSet<String> {
    let help = run!("--help").expect(0).stdout;
    let listed = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let name = |line: &str| line.strip_prefix("  ")?.split_whitespace().next().map(str::to_owned);
    // A continued description is indented further than a name.
    let names = listed.lines().filter(|line| !line.starts_with("   ")).filter_map(name);
    names.filter(|name| name != "help").collect()
}

#[test]
fn the_help_of_every_subcommand_has_an_example_of_it() {
    let commands = subcommands();
    for known in [
        "import",
        "validate",
        "synth",
        "train",
        "evaluate",
        "recommend",
        "verify",
        "collect",
        "drift",
        "retrain",
    ] {
        assert!(commands.contains(known), "{known} is not in {commands:?}");
    }
    for command in &commands {
        let help = run!(command, "--help").expect(0).stdout;
        let example = help.split_once("Example").map(|(_, example)| example).unwrap_or_default();
        assert!(example.contains(&format!("sanderling {command} ")), "{command} has no example:\n{help}");
    }
}

#[test]
fn wrong_arguments_exit_with_2_and_print_nothing_on_standard_output() {
    let (nowhere, out) = (WORLD.path("nowhere"), WORLD.path("unused"));
    for ran in [
        run!("dance"),
        run!("train", "--out", &out),
        run!("train", &nowhere, "--split", "random", "--out", &out),
        run!("train", &nowhere, "--seed", "-1", "--out", &out),
    ] {
        let ran = ran.expect(2);
        assert!(ran.stdout.is_empty(), "{}", ran.stdout);
        assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
    }
    let ran = run!("import", "--from", "ml-20m", &nowhere, "--out", &out).expect(2);
    assert!(ran.stderr.contains("ml-20m") && ran.stderr.contains("sequences"), "{}", ran.stderr);
    assert!(!out.exists(), "a refused command writes nothing");
}

#[test]
fn missing_inputs_are_named_with_a_code() {
    let (nowhere, out) = (WORLD.path("nowhere"), WORLD.path("unused-missing"));
    for layout in ["csv", "jsonl", "parquet", "movielens", "sequences", "ml-1m"] {
        run!("import", "--from", layout, &nowhere, "--out", &out, "--json").expect_error("not_found");
    }
    run!("validate", &nowhere, "--json").expect_error("not_found");
    run!("train", &nowhere, "--out", &out, "--json").expect_error("not_found");
    run!("evaluate", &WORLD.path("bundle"), &nowhere, "--json").expect_error("not_found");
    run!("train", &WORLD.path("data"), "--recipe", &nowhere, "--out", &out, "--json").expect_error("io");
    for ran in [
        run!("evaluate", &nowhere, &WORLD.path("data"), "--json"),
        run!("inspect", &nowhere, "--json"),
        run!("recommend", &nowhere, "item-1", "--json"),
        run!("verify", &nowhere, "--json"),
    ] {
        let error = ran.expect_json(2)["error"].clone();
        assert!(["io", "not_found", "file_missing"].contains(&error["code"].as_str().unwrap()), "{error}");
        assert!(error["message"].as_str().unwrap().contains("nowhere"), "the path is named: {error}");
    }
    // Without --json the code is in the line for people, and nothing else is printed.
    let ran = run!("validate", &nowhere).expect(2);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("(not_found)"), "{}{}", ran.stdout, ran.stderr);
    let recipe = WORLD.path("bad.toml");
    fs::write(&recipe, "[model]\ndimm = 3\n").unwrap();
    run!("train", &WORLD.path("data"), "--recipe", &recipe, "--out", &out, "--json")
        .expect_error("recipe_invalid");
    assert!(!out.exists(), "a failed command writes nothing");
}

#[test]
fn a_damaged_bundle_is_refused_with_the_code_of_the_damage() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage, &str); 5] = [
        ("items.bin", |bytes| *bytes.last_mut().unwrap() ^= 1, "hash_mismatch"),
        ("encoder.onnx", |bytes| bytes[20] ^= 0x80, "hash_mismatch"),
        ("vocabulary.json", |bytes| bytes.truncate(bytes.len() - 1), "file_truncated"),
        ("manifest.json", |bytes| bytes.truncate(100), "manifest_invalid"),
        (
            "manifest.json",
            |bytes| {
                let text = String::from_utf8(std::mem::take(bytes)).unwrap();
                *bytes = text.replace("\"format_version\":", "\"format_version\":9").into_bytes();
            },
            "unsupported_format_version",
        ),
    ];
    for (file, damage, code) in damages {
        let bundle = copy_of_bundle();
        let path = bundle.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let bundle = bundle.path();
        run!("evaluate", bundle, &WORLD.path("data"), "--json").expect_error(code);
        run!("verify", bundle, "--json").expect_error(code);
        run!("inspect", bundle, "--json").expect_error(code);
        run!("recommend", bundle, "item-1", "--json").expect_error(code);
    }
    let bundle = copy_of_bundle();
    fs::remove_file(bundle.path().join("ranker.onnx")).unwrap();
    run!("verify", bundle.path(), "--json").expect_error("file_missing");
}

#[test]
fn validate_exits_with_1_on_errors_and_names_their_lines() {
    let good = run!("validate", &WORLD.path("data"), "--now", "1900000000", "--json").expect_json(0);
    assert!(good["num_interactions"].as_u64().unwrap() > 500, "{good}");
    let dir = tempfile::tempdir().unwrap();
    let rows = "user_id,item_id,kind,timestamp\nu1,a,view,1767225600\nu1,b,view,1767225600\n,b,view,1767225601\n\
        u2,a,view,soon\nu2,b,view,1767225700\nu2,b,view,1767225700\n";
    fs::write(dir.path().join("interactions.csv"), rows).unwrap();
    let checked = run!("validate", dir.path(), "--now", "1900000000", "--json").expect_json(1);
    assert_eq!([&checked["num_rows"], &checked["num_interactions"]], [6, 4], "{checked}");
    let anomalies = checked["anomalies"].as_array().unwrap();
    let found = |code: &str| {
        anomalies
            .iter()
            .find(|anomaly| anomaly["code"] == code)
            .unwrap_or_else(|| panic!("{code}: {checked}"))
    };
    for (code, severity, line) in
        [("empty_id", "error", 4), ("invalid_timestamp", "error", 5), ("duplicate_interaction", "warning", 7)]
    {
        let anomaly = found(code);
        assert_eq!((&anomaly["severity"], &anomaly["count"]), (&json!(severity), &json!(1)), "{anomaly}");
        assert_eq!(anomaly["lines"], json!([line]), "{anomaly}");
        assert_eq!(anomaly["file"], "interactions.csv");
        assert!(anomaly["suggested_fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{anomaly}");
    }
    // People get the same verdict, and a warning alone is not an error.
    assert!(
        run!("validate", dir.path(), "--now", "1900000000").expect(1).stdout.contains("errors were found")
    );
    let warned =
        "user_id,item_id,timestamp\nu1,a,1767225600\nu1,b,1767225601\nu2,a,1767225700\nu2,a,1767225700\n";
    fs::write(dir.path().join("interactions.csv"), warned).unwrap();
    let checked = run!("validate", dir.path(), "--now", "1900000000", "--json").expect_json(0);
    assert!(
        checked["anomalies"]
            .as_array()
            .unwrap()
            .iter()
            .any(|anomaly| anomaly["code"] == "duplicate_interaction")
    );
    // A time before the data makes every row one of the future.
    let checked = run!("validate", dir.path(), "--now", "1000000000", "--json").expect_json(1);
    assert!(
        checked["anomalies"].as_array().unwrap().iter().any(|anomaly| anomaly["code"] == "future_timestamp")
    );
}

fn pack(ending: &str, bytes: &[u8]) -> Vec<u8> {
    match ending {
        "gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "xz" => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "zst" => zstd::encode_all(bytes, 3).unwrap(),
        _ => bytes.to_vec(),
    }
}

/// `u 10`, `u 11` and `v 10` a second apart.
fn parquet_log() -> Vec<u8> {
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::{properties::WriterProperties, writer::SerializedFileWriter};
    let schema = "message log { REQUIRED BYTE_ARRAY user_id (UTF8); REQUIRED INT64 item_id; REQUIRED INT64 timestamp; }";
    let schema = std::sync::Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut bytes, schema, WriterProperties::default().into()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&["u", "u", "v"].map(ByteArray::from), None, None).unwrap();
    column.close().unwrap();
    for values in [[10, 11, 10], [1_767_225_600, 1_767_225_601, 1_767_225_602]] {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

/// One import: what is written where, and what is expected beside the three interactions.
struct Case {
    layout: &'static str,
    file: &'static str,
    content: Vec<u8>,
    catalogue: Option<(&'static str, &'static [u8])>,
    time: TimeKind,
}

fn cases() -> Vec<Case> {
    let case = |layout, file, content: &[u8], catalogue: Option<(&'static str, &'static str)>, time| Case {
        layout,
        file,
        content: content.to_vec(),
        catalogue: catalogue.map(|(name, content)| (name, content.as_bytes())),
        time,
    };
    use TimeKind::{Order, UnixSeconds};
    let csv = b"user_id,item_id,timestamp\nu,10,1767225600\nu,11,1767225601\nv,10,1767225602\n";
    let items = ("items.csv", "item_id,title,categories\n10,\"Ten, a number\",a|b\n11,Eleven,a\n");
    let jsonl = b"{\"user_id\":\"u\",\"item_id\":10,\"timestamp\":1767225600}\n{\"user_id\":\"u\",\"item_id\":\"11\",\
        \"timestamp\":\"2026-01-01T00:00:01Z\"}\n{\"user_id\":\"v\",\"item_id\":10,\"timestamp\":1767225602}\n";
    let ratings =
        b"userId,movieId,rating,timestamp\nu,10,4,1767225600\nu,11,3.5,1767225601\nv,10,1,1767225602\n";
    let dat = b"u::10::4::1767225600\nu::11::3::1767225601\nv::10::1::1767225602\n";
    let data = b"u\t10\t4\t1767225600\nu\t11\t3\t1767225601\nv\t10\t1\t1767225602\n";
    let movies =
        ("movies.csv", "movieId,title,genres\n10,\"Ten, The (1995)\",Comedy|Drama\n11,Eleven,Drama\n");
    vec![
        case("csv", "interactions.csv", csv, Some(items), UnixSeconds),
        case("jsonl", "interactions.jsonl", jsonl, None, UnixSeconds),
        case("parquet", "interactions.parquet", &parquet_log(), None, UnixSeconds),
        case("movielens", "ratings.csv", ratings, Some(movies), UnixSeconds),
        case(
            "movielens",
            "ratings.dat",
            dat,
            Some(("movies.dat", "10::Ten (1995)::Drama\n11::Eleven::Drama\n")),
            UnixSeconds,
        ),
        case("movielens", "u.data", data, None, UnixSeconds),
        case("sequences", "sequences.txt", b"u 10 11\nv 10\n", None, Order),
    ]
}

#[test]
fn every_layout_is_imported_from_folder_and_file_in_every_compression() {
    for case in cases() {
        for ending in ["", "gz", "zst", "xz"] {
            let dir = tempfile::tempdir().unwrap();
            let source = dir.path().join("source");
            fs::create_dir(&source).unwrap();
            let name =
                if ending.is_empty() { case.file.to_owned() } else { format!("{}.{ending}", case.file) };
            fs::write(source.join(&name), pack(ending, &case.content)).unwrap();
            if let Some((catalogue, content)) = case.catalogue {
                fs::write(source.join(catalogue), content).unwrap();
            }
            for (path, out) in [(source.clone(), "folder"), (source.join(&name), "file")] {
                let out = dir.path().join(out);
                let summary =
                    run!("import", "--from", case.layout, &path, "--out", &out, "--json").expect_json(0);
                check_import(
                    &case,
                    &format!("{} {name} as a {}", case.layout, out.display()),
                    &summary,
                    &out,
                );
            }
        }
    }
}

fn check_import(case: &Case, what: &str, summary: &Value, out: &Path) {
    assert_eq!(
        [&summary["num_interactions"], &summary["num_users"], &summary["num_items"]],
        [3, 2, 2],
        "{what}: {summary}"
    );
    assert_eq!(summary["layout"], case.layout);
    let data = Dataset::read(out).unwrap();
    let base = if case.time == TimeKind::UnixSeconds { 1_767_225_600 } else { 0 };
    let rows: Vec<(&str, &str, i64)> = data
        .interactions
        .iter()
        .map(|row| (row.user_id.as_str(), row.item_id.as_str(), row.timestamp - base))
        .collect();
    let last = if case.time == TimeKind::UnixSeconds { 2 } else { 0 };
    assert_eq!(rows, [("u", "10", 0), ("u", "11", 1), ("v", "10", last)], "{what}");
    assert_eq!(data.time, case.time, "{what}");
    let num_items = if out.ends_with("folder") || case.layout == "movielens" {
        Some(if case.catalogue.is_some() { 2 } else { 0 })
    } else {
        None // whether a catalogue beside a bare table is read is not promised
    };
    assert!(num_items.is_none_or(|num_items| data.items.len() == num_items), "{what}: {:?}", data.items);
    assert_eq!(
        run!("validate", out, "--now", "1900000000", "--json").expect(0).json()["num_interactions"],
        3
    );
}

#[test]
fn columns_of_other_names_are_mapped_and_a_missing_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (log, out) = (dir.path().join("log.csv"), dir.path().join("out"));
    fs::write(&log, "who;what;moment\nu;10;1767225600\nv;11;1767225601\n").unwrap();
    let error = run!("import", "--from", "csv", &log, "--out", &out, "--json").expect_error("column_missing");
    assert!(error["found"].as_str().unwrap().contains("who, what, moment"), "{error}");
    assert!(!out.exists(), "a failed import writes nothing");
    let mapping = ["--column", "user=who", "--column", "item=what", "--column", "timestamp=moment"];
    let mut args =
        vec!["import", "--from", "csv", log.to_str().unwrap(), "--out", out.to_str().unwrap(), "--json"];
    args.extend(mapping);
    assert_eq!(sanderling(&args).expect_json(0)["num_interactions"], 2);
    fs::write(&log, "user_id,item_id,timestamp\nu,10,1767225600\nv,11,soon\n").unwrap();
    let error = run!("import", "--from", "csv", &log, "--out", &dir.path().join("bad"), "--json")
        .expect_error("data_invalid");
    assert!(error["message"].as_str().unwrap().contains("line 3"), "{error}");
}

/// The keys of `metrics`, each with an interval around its value.
#[track_caller]
fn check_metrics(metrics: &Value) -> BTreeSet<String> {
    for (name, metric) in metrics.as_object().unwrap() {
        let metric = metric.as_object().unwrap();
        assert_eq!(
            metric.keys().map(String::as_str).collect::<BTreeSet<_>>(),
            ["high", "low", "value"].into()
        );
        let [low, value, high] = ["low", "value", "high"].map(|key| metric[key].as_f64().unwrap());
        // Printed values are rounded to six digits.
        assert!(low <= value && value <= high, "{name}: {metric:?}");
        assert!((0.0..=1.0).contains(&low) && high <= 1.0, "{name}: {metric:?}");
    }
    metrics.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn train_prints_what_scripts_rely_on() {
    let trained = &WORLD.trained;
    assert_eq!(
        (&trained["recommender"], &trained["split"], &trained["seed"]),
        (&json!("sequence"), &json!("time"), &json!(5))
    );
    let keys = check_metrics(&trained["metrics"]);
    for key in ["ndcg@10", "hr@10", "precision@20", "mrr@20"] {
        assert!(keys.contains(key), "{key} is not in {keys:?}");
    }
    assert!(trained["metrics"]["hr@10"]["value"].as_f64().unwrap() > 0.0, "something is found: {trained}");
    let baselines = trained["baselines"].as_object().unwrap();
    for name in ["popular", "item-knn"] {
        assert_eq!(check_metrics(&baselines[name]), keys, "{name} has the same metrics");
        assert_ne!(baselines[name], trained["metrics"], "{name} is another recommender");
    }
    assert!(
        trained["cpu_seconds"].as_f64().unwrap() > 0.0 && trained["wall_seconds"].as_f64().unwrap() > 0.0
    );
    assert!(trained["peak_rss_bytes"].as_u64().unwrap() > 1 << 20, "{trained}");

    let bundle = WORLD.path("bundle");
    let manifest = fs::read(bundle.join("manifest.json")).unwrap();
    assert_eq!(trained["bundle_hash"], json!(Sha256Hash::of(&manifest)), "the hash is that of the manifest");
    let on_disk: u64 =
        fs::read_dir(&bundle).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(trained["bundle_bytes"], on_disk, "the bytes are those of the folder");

    for line in WORLD.progress.lines() {
        assert!(line.starts_with("epoch ") || line.ends_with(" …"), "not progress: {line:?}");
    }
    assert!(WORLD.progress.contains("epoch 2/2"), "{}", WORLD.progress);
}

#[test]
fn the_same_data_recipe_and_seed_give_the_same_bundle_on_any_number_of_threads() {
    let out = tempfile::tempdir().unwrap();
    for threads in [None, Some("1"), Some("2")] {
        let mut more = vec!["--seed", "5"];
        more.extend(threads.into_iter().flat_map(|threads| ["--threads", threads]));
        let again = train(WORLD.dir.path(), &more, &out.path().join("again")).expect_json(0);
        for key in ["bundle_hash", "bundle_bytes", "metrics", "baselines"] {
            assert_eq!(again[key], WORLD.trained[key], "{key} with {threads:?} threads");
        }
    }
    let other = train(WORLD.dir.path(), &["--seed", "6"], &out.path().join("other")).expect_json(0);
    assert_ne!(other["bundle_hash"], WORLD.trained["bundle_hash"], "the seed matters");
    assert_eq!(other["seed"], 6);
}

#[test]
fn evaluate_repeats_the_metrics_of_training() {
    let evaluated = run!("evaluate", &WORLD.path("bundle"), &WORLD.path("data"), "--json").expect_json(0);
    for key in
        ["recommender", "split", "seed", "num_cases", "metrics", "baselines", "bundle_bytes", "bundle_hash"]
    {
        assert_eq!(evaluated[key], WORLD.trained[key], "{key}");
    }
    for key in ["cpu_seconds", "wall_seconds", "peak_rss_bytes"] {
        assert!(evaluated[key].as_f64().is_some_and(|cost| cost > 0.0), "{key}: {evaluated}");
    }
}

#[test]
fn every_split_trains_and_is_named_in_the_result() {
    let out = tempfile::tempdir().unwrap();
    for split in ["leave-one-out", "next-click"] {
        let bundle = out.path().join(split);
        let trained =
            train(WORLD.dir.path(), &["--split", split, "--max-epochs", "1"], &bundle).expect_json(0);
        assert_eq!(
            (&trained["split"], &trained["seed"]),
            (&json!(split), &json!(1)),
            "the seed's default is 1"
        );
        let evaluated = run!("evaluate", &bundle, &WORLD.path("data"), "--json").expect_json(0);
        for key in ["split", "num_cases", "metrics", "baselines"] {
            assert_eq!(evaluated[key], trained[key], "{key} of {split}");
        }
    }
}

#[test]
fn a_bundle_over_its_byte_budget_is_an_error_and_is_not_written() {
    let out = tempfile::tempdir().unwrap();
    let recipe = out.path().join("tight.toml");
    fs::write(&recipe, RECIPE.replacen("[model]", "max_bundle_bytes = 1000\n[model]", 1)).unwrap();
    let bundle = out.path().join("bundle");
    run!("train", &WORLD.path("data"), "--recipe", &recipe, "--out", &bundle, "--json")
        .expect_error("budget_exceeded");
    assert!(!bundle.exists());
}

#[test]
fn a_signed_bundle_verifies_with_its_key_alone() {
    let bundle = copy_of_bundle();
    let (bundle, keys) = (bundle.path(), tempfile::tempdir().unwrap());
    let (key, other) = (keys.path().join("shop.key"), keys.path().join("other.key"));
    let public = |key: &Path| PathBuf::from(format!("{}.pub", key.display()));
    let made = run!("keygen", "--out", &key, "--json").expect_json(0);
    run!("keygen", "--out", &other).expect(0);
    assert_eq!(fs::read_to_string(public(&key)).unwrap().trim(), made["public_key"]);
    assert_ne!(fs::read(&key).unwrap(), fs::read(&other).unwrap(), "every key is new");
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions()) & 0o777,
        0o600
    );
    let kept = fs::read(&key).unwrap();
    run!("keygen", "--out", &key, "--json").expect_error("io");
    assert_eq!(fs::read(&key).unwrap(), kept, "a key is never overwritten");

    run!("verify", bundle, "--public-key", &public(&key), "--json").expect_error("signature_missing");
    let signed = run!("sign", bundle, "--key", &key, "--json").expect_json(0);
    assert_eq!(
        (&signed["bundle_hash"], &signed["public_key"]),
        (&WORLD.trained["bundle_hash"], &made["public_key"])
    );
    let verified = run!("verify", bundle, "--public-key", &public(&key), "--json").expect_json(0);
    assert_eq!(
        (&verified["signature_checked"], &verified["bundle_hash"]),
        (&json!(true), &WORLD.trained["bundle_hash"])
    );
    assert_eq!(run!("verify", bundle, "--json").expect_json(0)["signature_checked"], false);
    run!("verify", bundle, "--public-key", &public(&other), "--json").expect_error("signature_invalid");
    run!("verify", bundle, "--public-key", &bundle.join("card.md"), "--json")
        .expect_error("invalid_argument");
    let mut signature = fs::read(bundle.join("manifest.sig")).unwrap();
    signature[0] ^= 1;
    fs::write(bundle.join("manifest.sig"), signature).unwrap();
    run!("verify", bundle, "--public-key", &public(&key), "--json").expect_error("signature_invalid");
}

#[test]
fn recommend_answers_with_positions_and_falls_back_without_a_session() {
    let bundle = WORLD.path("bundle");
    let items = Dataset::read(&WORLD.path("data")).unwrap().interactions;
    let item = items.first().unwrap().item_id.as_str();
    let answer =
        run!("recommend", &bundle, item, "--limit", "5", "--now", "1767225600", "--json").expect_json(0);
    let list = answer["recommendations"].as_array().unwrap();
    let positions: Vec<u64> = list.iter().map(|one| one["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5], "{answer}");
    let empty = run!("recommend", &bundle, "--limit", "5", "--json").expect_json(0);
    assert!(
        empty["faults"].as_array().unwrap().iter().any(|fault| fault["code"] == "empty_session"),
        "{empty}"
    );
    assert_eq!(empty["recommendations"].as_array().unwrap().len(), 5, "{empty}");
}
