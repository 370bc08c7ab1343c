use std::path::Path;

use sanderling_types::{Code, SplitPart, TimeKind};

use super::{assert_error, pack, put};
use crate::data::{
    ColumnMap, Dataset, ImportOptions, ImportSummary, Interactions, LAYOUTS, Progress, Row, Stage, TimeUnit,
    import,
};

fn load(layout: &str, path: &Path) -> (Dataset, ImportSummary) {
    import(layout, path, &ImportOptions::default(), &mut |_| {}).unwrap()
}

fn brief(rows: &Interactions) -> Vec<(&str, &str, i64)> {
    rows.iter().map(|row| (row.user_id, row.item_id, row.timestamp)).collect()
}

fn at(data: &Dataset, row: usize) -> Row<'_> {
    data.interactions.iter().nth(row).unwrap()
}

#[test]
fn typed_atomic_files() {
    let dir = tempfile::tempdir().unwrap();
    let inter = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t881250949\n1\t1\t5\t881250940\n";
    let item = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n1\tToy Story\t1995\tAnimation Children's\n2\tHeat\t\t\n";
    put(dir.path(), "ml-100k.inter.tsv.xz", &pack("xz", inter));
    put(dir.path(), "ml-100k.item.tsv.xz", &pack("xz", item.as_bytes()));
    let (data, summary) = load("ml-100k", dir.path());
    assert_eq!(brief(&data.interactions), [("1", "1", 881_250_940), ("1", "2", 881_250_949)]);
    assert_eq!((at(&data, 0).kind, at(&data, 0).value), ("rating", Some(5.0)));
    assert_eq!(data.items[0].title, "Toy Story");
    assert_eq!(data.items[0].categories, ["Animation", "Children's"]);
    assert_eq!(data.items[0].published_at, Some(788_918_400));
    assert_eq!(data.items[0].attributes["release_year"], "1995");
    assert_eq!(data.items[1].published_at, None);
    assert_eq!((summary.time, summary.num_items, summary.num_users), (TimeKind::UnixSeconds, 2, 1));
    assert!(summary.columns.contains(&("user".into(), "user_id:token".into())), "{:?}", summary.columns);
}

#[test]
fn sequences_with_a_catalogue() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "sequences.txt", b"7 b a b\n3 c\n");
    put(
        dir.path(),
        "items.tsv",
        b"item\tmovielens_id\ttitle\tyear\tgenres\na\t9\tX (1980)\t1980\tComedy|War\n",
    );
    let (data, _) = load("ml-1m", dir.path());
    assert_eq!(brief(&data.interactions), [("7", "b", 0), ("7", "a", 1), ("7", "b", 2), ("3", "c", 0)]);
    assert_eq!((data.time, at(&data, 0).kind), (TimeKind::Order, "rating"));
    assert_eq!(data.items[0].categories, ["Comedy", "War"]);
    assert_eq!((data.items[0].published_at, data.items[0].attributes["year"].as_str()), (None, "1980"));
    assert_eq!(data.items[0].attributes["movielens_id"], "9");
    let (plain, summary) = load("sequences", &dir.path().join("sequences.txt"));
    assert_eq!((plain.items.len(), summary.num_interactions), (0, 4));
    data.write_from(&dir.path().join("out"), "ml-1m", &mut |_| {}).unwrap();
    assert_eq!(Dataset::read(&dir.path().join("out")).unwrap(), data);
}

#[test]
fn attribute_lists_become_categories() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "sequences.txt", b"1 4 83\n");
    put(dir.path(), "item_attributes.json", b"{\"83\": [4, 5], \"4\": [1]}");
    let (data, _) = load("amazon-beauty", dir.path());
    assert_eq!(data.items[0].item_id.as_str(), "4");
    assert_eq!(data.items[1].categories, ["4", "5"]);
}

#[test]
fn sessions_keep_their_global_order_and_split() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "train_sessions.txt.xz", &pack("xz", b"1 2\n3 3 5\n"));
    put(dir.path(), "test_sessions.txt", b"5 1\n");
    let (data, summary) = load("diginetica", dir.path());
    let expected = [
        ("s1", "1", 0),
        ("s1", "2", 1),
        ("s2", "3", 2),
        ("s2", "3", 3),
        ("s2", "5", 4),
        ("s3", "5", 5),
        ("s3", "1", 6),
    ];
    assert_eq!(brief(&data.interactions), expected);
    let splits: Vec<_> = data.interactions.iter().filter_map(|row| row.split).collect();
    assert_eq!(splits[..5], [SplitPart::Train; 5]);
    assert_eq!(splits[5..], [SplitPart::Test; 2]);
    assert_eq!((data.time, summary.num_users), (TimeKind::Order, 3));
}

#[test]
fn the_ncf_protocol_keeps_its_test_pairs_last() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "train_pairs.txt", b"0 31 22\n1 127\n");
    put(dir.path(), "ml-1m.test.rating", b"0\t25\t5\t978824351\n1\t133\t3\t978300174\n");
    put(dir.path(), "item_map.tsv", b"ncf_item\tmovielens_id\n25\t1193\n");
    let (data, _) = load("ml-1m-ncf100", dir.path());
    let expected = [("0", "31", 0), ("0", "22", 1), ("0", "25", 2), ("1", "127", 0), ("1", "133", 1)];
    assert_eq!(brief(&data.interactions), expected);
    assert_eq!(at(&data, 2).split, Some(SplitPart::Test));
    assert_eq!((at(&data, 2).value, at(&data, 0).split), (Some(5.0), Some(SplitPart::Train)));
    assert_eq!(
        (data.items[0].item_id.as_str(), data.items[0].attributes["movielens_id"].as_str()),
        ("25", "1193")
    );
    assert_eq!(data.items.len(), 5, "items outside the map are in the catalogue, too");
}

#[test]
fn movielens_in_its_three_forms() {
    let dir = tempfile::tempdir().unwrap();
    let (new, middle, old) = (dir.path().join("csv"), dir.path().join("dat"), dir.path().join("u"));
    put(&new, "ratings.csv", b"userId,movieId,rating,timestamp\n7,1,3.5,851866703\n");
    put(
        &new,
        "movies.csv",
        b"movieId,title,genres\n1,\"American President, The (1995)\",Comedy|Drama\n2,X,(no genres listed)\n",
    );
    put(&middle, "ratings.dat", b"7::1::3.5::851866703\n");
    put(&middle, "movies.dat", b"1::American President, The (1995)::Comedy|Drama\n2::Mis\xe9rables::\n");
    put(&old, "u.data", b"7\t1\t3.5\t851866703\n");
    let flags = |set: &[usize]| {
        (0..19).map(|at| if set.contains(&at) { "1" } else { "0" }).collect::<Vec<_>>().join("|")
    };
    let movies = format!(
        "1|American President, The (1995)|01-Jan-1995||http://x|{}\n2|X|||y|{}\n",
        flags(&[5, 8]),
        flags(&[])
    );
    put(&old, "u.item", movies.as_bytes());
    for folder in [&new, &middle, &old] {
        let (data, summary) = load("movielens", folder);
        assert_eq!(brief(&data.interactions), [("7", "1", 851_866_703)], "{}", folder.display());
        assert_eq!((at(&data, 0).value, at(&data, 0).kind), (Some(3.5), "rating"));
        assert_eq!(data.items[0].title, "American President, The (1995)");
        assert_eq!(data.items[0].categories, ["Comedy", "Drama"]);
        assert_eq!(data.items[0].published_at, Some(788_918_400));
        assert_eq!((data.items[1].categories.len(), data.items[1].published_at), (0, None));
        assert_eq!((summary.num_catalogue_items, data.time), (2, TimeKind::UnixSeconds));
    }
    assert_eq!(load("movielens", &middle).0.items[1].title, "Misérables");
    assert_eq!(load("ml-latest-small", &new.join("ratings.csv")).0, load("movielens", &new).0);
    put(&middle, "ratings.dat", b"7::1::3.5::851866703\n7::1::x::8\n");
    let outcome = import("movielens", &middle, &ImportOptions::default(), &mut |_| {});
    assert_error(outcome, Code::DataInvalid, &["ratings.dat line 2", "finite rating", "found x"]);
}

#[test]
fn tables_with_recognised_and_mapped_columns() {
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "log.csv",
        b"ts;product_id;user;event\n2026-01-01T00:00:05Z;p1;u;buy\n1767225600000;p2;u;\n",
    );
    let (data, summary) = load("csv", &dir.path().join("log.csv"));
    assert_eq!(brief(&data.interactions), [("u", "p2", 1_767_225_600), ("u", "p1", 1_767_225_605)]);
    let kinds: Vec<&str> = data.interactions.iter().map(|row| row.kind).collect();
    assert_eq!((kinds, summary.time), (vec!["view", "buy"], TimeKind::UnixSeconds));

    put(dir.path(), "odd.csv", b"who,what,moment,stars\nu,a,5000,4\n");
    let outcome = import("csv", &dir.path().join("odd.csv"), &ImportOptions::default(), &mut |_| {});
    assert_error(outcome, Code::ColumnMissing, &["user_id", "who, what, moment, stars", "mapping"]);
    let mut columns = ColumnMap::default();
    for (meaning, column) in [("user", "who"), ("item_id", "what"), ("timestamp", "moment")] {
        columns.set(meaning, column).unwrap();
    }
    assert_error(columns.clone().set("colour", "x"), Code::InvalidArgument, &["colour"]);
    let kind = Some("click".to_owned());
    let options =
        ImportOptions { columns, time_unit: TimeUnit::Milliseconds, kind, ..ImportOptions::default() };
    let (data, _) = import("csv", &dir.path().join("odd.csv"), &options, &mut |_| {}).unwrap();
    assert_eq!(brief(&data.interactions), [("u", "a", 5)]);
    assert_eq!((at(&data, 0).kind, at(&data, 0).value), ("click", Some(4.0)));
    let columns = ColumnMap { user: Some("nobody".into()), ..ColumnMap::default() };
    let options = ImportOptions { columns, ..ImportOptions::default() };
    let outcome = import("csv", &dir.path().join("odd.csv"), &options, &mut |_| {});
    assert_error(outcome, Code::ColumnMissing, &["nobody"]);

    put(dir.path(), "untimed.csv", b"user_id,item_id,split\nu,a,train\nv,b,train\nu,c,test\n");
    let (data, summary) = load("csv", &dir.path().join("untimed.csv"));
    assert_eq!(brief(&data.interactions), [("u", "a", 0), ("u", "c", 2), ("v", "b", 1)]);
    assert_eq!((data.time, summary.notes.len()), (TimeKind::Order, 1));
}

#[test]
fn json_lines_with_a_catalogue() {
    let dir = tempfile::tempdir().unwrap();
    let rows = "{\"userId\": 1, \"itemId\": \"a\", \"time\": 1767225600, \"rating\": 4.5}\n\n{\"userId\":2,\"itemId\":\"b\",\"time\":\"2026-01-01\",\"rating\":null}\n";
    put(dir.path(), "interactions.jsonl.zst", &pack("zst", rows.as_bytes()));
    put(dir.path(), "items.jsonl", b"{\"item_id\":\"a\",\"title\":\"A\",\"categories\":[\"x|y\",\"z\"],\"price\":3,\"brand\":\"Tern\"}\n");
    let (data, _) = load("jsonl", dir.path());
    assert_eq!(brief(&data.interactions), [("1", "a", 1_767_225_600), ("2", "b", 1_767_225_600)]);
    assert_eq!((at(&data, 0).value, at(&data, 1).value), (Some(4.5), None));
    assert_eq!(data.items[0].categories, ["x|y", "z"]);
    assert_eq!((data.items[0].price, data.items[0].attributes["brand"].as_str()), (Some(3.0), "Tern"));
    put(dir.path(), "bad.jsonl", b"{\"user\":1,\"item\":2}\n\n[1]\n");
    let outcome = import("jsonl", &dir.path().join("bad.jsonl"), &ImportOptions::default(), &mut |_| {});
    assert_error(outcome, Code::DataInvalid, &["line 3", "a JSON object"]);
    assert_error(
        import("csv", &dir.path().join("bad.jsonl"), &ImportOptions::default(), &mut |_| {}),
        Code::InvalidArgument,
        &["bad.jsonl", ".csv"],
    );
}

#[test]
fn parquet_with_typed_columns() {
    use parquet::{
        data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type},
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    };
    let schema = "message log { REQUIRED BYTE_ARRAY user_id (UTF8); REQUIRED INT64 item_id; \
                  REQUIRED INT64 timestamp (TIMESTAMP_MILLIS); OPTIONAL DOUBLE rating; }";
    let schema = std::sync::Arc::new(parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut bytes, schema, std::sync::Arc::new(WriterProperties::default()))
            .unwrap();
    let mut group = writer.next_row_group().unwrap();
    let users = [ByteArray::from("u"), ByteArray::from("v")];
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&users, None, None).unwrap();
    column.close().unwrap();
    for values in [[10, 20], [1_767_225_600_999, 1_767_225_601_000]] {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    }
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<DoubleType>().write_batch(&[4.5], Some(&[1, 0]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();

    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "interactions.parquet", &bytes);
    let (data, _) = load("parquet", dir.path());
    assert_eq!(brief(&data.interactions), [("u", "10", 1_767_225_600), ("v", "20", 1_767_225_601)]);
    assert_eq!((at(&data, 0).value, at(&data, 1).value), (Some(4.5), None));
    put(dir.path(), "packed.parquet.gz", &pack("gz", &bytes));
    assert_eq!(load("parquet", &dir.path().join("packed.parquet.gz")).0, data);
    bytes.truncate(bytes.len() / 2);
    put(dir.path(), "half.parquet", &bytes);
    let outcome = import("parquet", &dir.path().join("half.parquet"), &ImportOptions::default(), &mut |_| {});
    assert_error(outcome, Code::DataInvalid, &["half.parquet"]);
}

#[test]
fn unknown_layouts_and_missing_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let options = ImportOptions::default();
    assert_error(
        import("ml-20m", dir.path(), &options, &mut |_| {}),
        Code::UnknownLayout,
        &["ml-1m", "found ml-20m", "column mapping"],
    );
    for (layout, _) in LAYOUTS {
        assert_error(import(layout, dir.path(), &options, &mut |_| {}), Code::NotFound, &[]);
        assert_error(import(layout, &dir.path().join("nowhere"), &options, &mut |_| {}), Code::NotFound, &[]);
    }
    put(dir.path(), "sequences.txt", b"1 a\n2\n");
    assert_error(
        import("sequences", dir.path(), &options, &mut |_| {}),
        Code::DataInvalid,
        &["line 2", "empty"],
    );
    put(dir.path(), "sequences.txt", b"1 a\n2 b\n1 c\n");
    assert_error(
        import("sequences", dir.path(), &options, &mut |_| {}),
        Code::DataInvalid,
        &["line 3", "line 1"],
    );
}

#[test]
fn long_imports_tell_how_far_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::from("user_id,item_id,timestamp\n");
    (0..200_000).for_each(|index| text.push_str(&format!("u,i,{}\n", -index)));
    put(dir.path(), "interactions.csv", text.as_bytes());
    let mut seen: Vec<Progress> = Vec::new();
    import("csv", dir.path(), &ImportOptions::default(), &mut |progress| seen.push(progress)).unwrap();
    let told: Vec<(Stage, u64)> =
        seen.iter().map(|progress| (progress.stage, progress.interactions)).collect();
    let reading = [65_536, 131_072, 196_608].map(|rows| (Stage::Reading, rows));
    assert_eq!(told, [&reading[..], &[(Stage::Sorting, 200_000)]].concat());
    seen.pop();
    assert!(seen.is_sorted_by_key(|progress| progress.done));
    assert!(seen.iter().all(|progress| progress.done <= progress.total && progress.total > 0));
}
