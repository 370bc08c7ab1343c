use std::{collections::BTreeMap, fs};

use sanderling_types::{Code, Interaction, Item, SplitPart, TimeKind};

use super::{assert_error, pack, put};
use crate::data::{DataInfo, Dataset};

fn row(user: &str, item: &str, timestamp: i64) -> Interaction {
    Interaction {
        user_id: user.into(),
        item_id: item.into(),
        kind: "view".into(),
        timestamp,
        value: None,
        split: None,
    }
}

fn item(id: &str, title: &str, categories: &[&str]) -> Item {
    Item {
        item_id: id.into(),
        title: title.into(),
        categories: categories.iter().map(|name| (*name).to_owned()).collect(),
        price: None,
        published_at: None,
        attributes: BTreeMap::new(),
    }
}

fn sample() -> Dataset {
    sample_with(|_| {})
}

fn sample_with(change: impl FnOnce(&mut Vec<Interaction>)) -> Dataset {
    let mut rows = vec![row("b", "x", 5), row("a", "x,\"1\"\n2", -3), row("b", "ü", 7), row("a", "y", 9)];
    rows[0].value = Some(0.1);
    rows[2].split = Some(SplitPart::Test);
    let mut items = vec![item("x", "A \"quoted\", title", &["one|two", "three\\"]), item("y", "", &[])];
    items[0].price = Some(19.99);
    items[0].published_at = Some(-86_400);
    items[1].attributes.insert("brand".into(), "Tern".into());
    change(&mut rows);
    Dataset::new(rows, items, TimeKind::UnixSeconds).unwrap()
}

#[test]
fn a_folder_comes_back_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("deep/data");
    let dataset = sample();
    dataset.write_from(&folder, "somewhere", &mut |_| {}).unwrap();
    assert_eq!(Dataset::read(&folder).unwrap(), dataset);
    assert_eq!(Dataset::read(&folder.join("interactions.csv")).unwrap(), dataset);
    let info = DataInfo::read(&folder.join("data.json")).unwrap();
    assert_eq!((info.source.as_str(), info.time), ("somewhere", TimeKind::UnixSeconds));
    assert_eq!((info.counts.interactions, info.counts.users, info.counts.items), (4, 2, 2));
    let order = Dataset { time: TimeKind::Order, items: Vec::new(), ..dataset };
    order.write(&folder).unwrap();
    assert_eq!(Dataset::read(&folder).unwrap(), order, "an older folder is replaced as a whole");
    assert!(!folder.join("items.csv").exists());
    assert_eq!(fs::read_dir(dir.path().join("deep")).unwrap().count(), 1, "nothing else is left behind");
}

#[test]
fn rows_are_grouped_by_user_and_sorted_by_time_with_ties_in_file_order() {
    let rows = vec![row("b", "1", 5), row("a", "2", 9), row("b", "3", 4), row("a", "4", 9), row("b", "5", 5)];
    let rows = Dataset::new(rows, Vec::new(), TimeKind::UnixSeconds).unwrap().interactions;
    let items: Vec<&str> = rows.iter().map(|row| row.item_id).collect();
    assert_eq!(items, ["3", "1", "5", "2", "4"]);
    assert!(rows.users().iter().eq(["b", "a"]));
    assert_eq!([rows.rows_of(0), rows.rows_of(1)], [0..3, 3..5]);
}

#[test]
fn foreign_folders_and_unwritable_rows_are_refused_and_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "thesis.doc", b"years of work");
    assert_error(sample().write(dir.path()), Code::InvalidArgument, &["thesis.doc", "nothing was changed"]);
    assert_eq!(fs::read(dir.path().join("thesis.doc")).unwrap(), b"years of work");
    let folder = dir.path().join("new");
    let (mut priced, mut named) = (sample(), sample());
    priced.items[0].price = Some(-1.0);
    named.items[0].attributes.extend([("price".to_owned(), "x".to_owned())]);
    for dataset in [
        sample_with(|rows| rows[0].value = Some(f32::NAN)),
        sample_with(|rows| rows[0].user_id = "".into()),
        priced,
        named,
    ] {
        assert_error(dataset.write(&folder), Code::InvalidArgument, &["no text form"]);
        assert!(!folder.exists());
    }
}

#[test]
fn compression_line_ends_and_marks_do_not_matter() {
    let plain = "user_id,item_id,timestamp\nu,a,1767225600\n\"u\",\"b, c\",1767225601\nv,a,1767225602\n";
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "interactions.csv", plain.as_bytes());
    let expected = Dataset::read(dir.path()).unwrap();
    assert_eq!(expected.interactions.len(), 3);
    assert_eq!(expected.interactions.iter().nth(1).unwrap().item_id, "b, c");
    let crlf = plain.replace('\n', "\r\n");
    let marked = format!("\u{feff}{crlf}");
    let no_end = plain.trim_end();
    let tabs = plain.replace("b, c", "b! c").replace(',', "\t").replace("b! c", "b, c");
    for text in [crlf.as_str(), &marked, no_end, &tabs] {
        put(dir.path(), "interactions.csv", text.as_bytes());
        assert_eq!(Dataset::read(dir.path()).unwrap(), expected, "{text:?}");
    }
    for ending in ["xz", "gz", "zst"] {
        let folder = dir.path().join(ending);
        put(&folder, &format!("interactions.csv.{ending}"), &pack(ending, marked.as_bytes()));
        assert_eq!(Dataset::read(&folder).unwrap(), expected, "{ending}");
        // The content decides, not the name.
        put(&folder, "renamed.csv", &pack(ending, plain.as_bytes()));
        assert_eq!(Dataset::read(&folder.join("renamed.csv")).unwrap(), expected, "{ending}");
    }
    let mut broken = pack("gz", plain.as_bytes());
    broken.truncate(broken.len() - 12);
    put(dir.path(), "broken.csv.gz", &broken);
    assert_error(Dataset::read(&dir.path().join("broken.csv.gz")), Code::Io, &["broken.csv.gz"]);
}

#[test]
fn errors_name_file_line_and_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let head = "user_id,item_id,kind,timestamp,value,split\n";
    for (rows, parts) in [
        ("u,a,view,1,,\nu,b,view,2\n", ["line 3", "expected 6 fields", "found 4"].as_slice()),
        ("u,a,view,1,,\n\n\nu,,view,2,,\n", &["line 5", "id is empty", "an item id"]),
        ("\"u\n1\",a,view,1,,\nu,b,view,soon,,\n", &["line 4", "timestamp", "`soon`"]),
        ("u,a,view,1,inf,\n", &["line 2", "finite", "`inf`"]),
        ("u,a,view,1,,holdout\n", &["line 2", "train, validation or test", "`holdout`"]),
    ] {
        for text in
            [format!("{head}{rows}"), format!("\u{feff}{}", format!("{head}{rows}").replace('\n', "\r\n"))]
        {
            put(dir.path(), "interactions.csv", text.as_bytes());
            assert_error(Dataset::read(dir.path()), Code::DataInvalid, parts);
        }
    }
    put(dir.path(), "interactions.csv", b"user_id,item_id\nu,a\nu,\xe9\n");
    assert_error(Dataset::read(dir.path()), Code::DataInvalid, &["line 3", "UTF-8"]);
    put(dir.path(), "interactions.csv", b"user_id,when\nu,1\n");
    assert_error(Dataset::read(dir.path()), Code::ColumnMissing, &["item_id", "user_id, when", "mapping"]);
    put(dir.path(), "interactions.csv", head.as_bytes());
    assert_error(Dataset::read(dir.path()), Code::EmptyData, &["interactions.csv"]);
    put(dir.path(), "interactions.csv", b"");
    assert_error(Dataset::read(dir.path()), Code::EmptyData, &["interactions.csv"]);
    put(dir.path(), "interactions.csv", b"user_id,item_id\nu,a\n");
    put(dir.path(), "items.csv", b"item_id,price\na,-1\n");
    assert_error(Dataset::read(dir.path()), Code::DataInvalid, &["items.csv line 2", "price", "-1"]);
    put(dir.path(), "data.json", b"{\"format_version\":9}");
    assert_error(Dataset::read(dir.path()), Code::UnsupportedFormatVersion, &["data.json"]);
    assert_error(Dataset::read(&dir.path().join("nowhere")), Code::NotFound, &["nowhere"]);
}

#[test]
fn a_million_rows_are_read_and_grouped() {
    let mut text = String::from("user_id,item_id,kind,timestamp,value,split\n");
    for index in 0..1_000_000_u32 {
        use std::fmt::Write;
        writeln!(text, "{},{},view,{},,", index % 997, index % 3_001, 1_700_000_000 + index).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "interactions.csv", text.as_bytes());
    let start = std::time::Instant::now();
    let dataset = Dataset::read(dir.path()).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(dataset.interactions.users().len(), 997);
    // About a second on an idle machine; the bound only catches quadratic work.
    assert!(seconds < 60.0, "{seconds} s");
}
