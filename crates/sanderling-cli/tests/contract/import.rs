//! Every layout, compression and column mapping of `sanderling import`, and what `validate` finds.

use std::fs;
use std::io::Write;
use std::path::Path;

use sanderling_train::data::Dataset;
use sanderling_types::TimeKind;
use serde_json::{Value, json};

use crate::support::{WORLD, run, sanderling};

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
    let rows: Vec<(&str, &str, i64)> =
        data.interactions.iter().map(|row| (row.user_id, row.item_id, row.timestamp - base)).collect();
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

#[test]
fn a_folder_of_tables_is_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let parts = dir.path().join("parts");
    fs::create_dir(&parts).unwrap();
    let header = "user_id,item_id,timestamp\n";
    let (first, second) = ("u,10,1767225600\nu,11,1767225601\n", "v,10,1767225602\n");
    let write = |name: &str, text: String| fs::write(parts.join(name), text).unwrap();
    write("part-0.csv", format!("{header}{first}"));
    write("part-1.csv", String::new());
    fs::write(parts.join("part-2.csv.gz"), pack("gz", format!("{header}{second}").as_bytes())).unwrap();
    // What other programs leave beside their tables.
    write("_SUCCESS", String::new());
    write("_metadata.csv", "a,b\n".to_owned());
    write(".part-0.csv", "a,b\n".to_owned());
    let one = dir.path().join("one.csv");
    fs::write(&one, format!("{header}{first}{second}")).unwrap();
    let imported = |from: &Path, to: &str| {
        let to = dir.path().join(to);
        run!("import", "--from", "csv", from, "--out", &to, "--json").expect_json(0);
        Dataset::read(&to).unwrap()
    };
    assert_eq!(imported(&parts, "of-parts"), imported(&one, "of-one"));
    // Without importing, too.
    assert_eq!(Dataset::read(&parts).unwrap().interactions.len(), 3);

    write("part-3.csv", format!("{header}v,11,1767225603\n,11,1767225604\n"));
    let checked = run!("validate", &parts, "--now", "1900000000", "--json").expect_json(1);
    let anomalies = checked["anomalies"].as_array().unwrap();
    let anomaly =
        anomalies.iter().find(|anomaly| anomaly["code"] == "empty_id").expect("a line without a user");
    assert_eq!((&anomaly["file"], &anomaly["lines"]), (&json!("part-3.csv"), &json!([3])), "{checked}");

    write("part-3.csv", "user_id,timestamp\nv,1767225603\n".to_owned());
    let error = run!("import", "--from", "csv", &parts, "--out", &dir.path().join("no"), "--json")
        .expect_error("column_missing");
    assert!(error["message"].as_str().unwrap().contains("part-3.csv"), "{error}");
    write("part-3.csv", "user_id,item_id\nv,10\n".to_owned());
    let error = run!("import", "--from", "csv", &parts, "--out", &dir.path().join("no"), "--json")
        .expect_error("column_missing");
    assert!(error["message"].as_str().unwrap().contains("part-3.csv"), "{error}");
    assert!(!dir.path().join("no").exists());
}
