//! Measures fallback lists of segments on what new users choose first, and prints a table:
//! `SANDERLING_DATA=… cargo run --release -p sanderling-conformance --example segments`. Does nothing without `SANDERLING_DATA`.
//!
//! Users are dealt into five folds. The users of a fold are new: the lists, and the global list beside them, are made of
//! all others, and judged by the first interaction of each new user, and by all of theirs. The column "taken" says in how many
//! folds the trainer would put the lists of any key into a bundle; the figures are of the lists whether it would or not.
#![allow(clippy::unwrap_used, reason = "a tool for developers fails by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "prints its result")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use liblzma::read::XzDecoder;
use sanderling_train::data::{ColumnMap, Dataset};
use sanderling_train::segments::{counted, segments};
use sanderling_train::split::{self, SplitKind};
use sanderling_types::{Context, Sha256Hash};

const FOLDS: usize = 5;
const LENGTHS: [usize; 2] = [10, 50];

/// A user of a public data set.
struct User {
    /// Items, oldest first.
    items: Vec<String>,
    context: Context,
}

fn main() {
    let Some(data) = std::env::var_os("SANDERLING_DATA").map(PathBuf::from) else {
        eprintln!("SANDERLING_DATA is not set: nothing to measure on");
        return;
    };
    println!(
        "| Data, key | Lists | Taken | Users with one | Measure | Global list | Segment's list | Difference |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (name, users) in [("MovieLens 1M", movielens_1m(&data)), ("MovieLens 100K", movielens_100k(&data))] {
        let keys: Vec<String> = users.values().next().unwrap().context.keys().cloned().collect();
        for key in &keys {
            measure(name, std::slice::from_ref(key), &users);
        }
        measure(name, &keys, &users);
    }
}

fn lines(path: &Path) -> Vec<Vec<String>> {
    let file = std::fs::File::open(path).unwrap();
    let text = std::io::read_to_string(XzDecoder::new(file)).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn context<const N: usize>(facts: [(&str, String); N]) -> Context {
    facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn movielens_1m(data: &Path) -> BTreeMap<String, User> {
    let folder = data.join("ml-1m");
    let facts: HashMap<String, Context> = lines(&folder.join("users.tsv.xz"))
        .into_iter()
        .skip(1)
        .map(|row| {
            let [user, _, gender, age, occupation] = row.try_into().unwrap();
            (user, context([("gender", gender), ("age", age), ("occupation", occupation)]))
        })
        .collect();
    let sequences = lines(&folder.join("sequences.txt.xz"));
    let user = |line: Vec<String>| {
        let mut words = line[0].split(' ').map(str::to_owned);
        let id = words.next().unwrap();
        let context = facts[&id].clone();
        (id, User { items: words.collect(), context })
    };
    sequences.into_iter().map(user).collect()
}

fn movielens_100k(data: &Path) -> BTreeMap<String, User> {
    let folder = data.join("ml-100k");
    let mut users: BTreeMap<String, User> = lines(&folder.join("ml-100k.user.tsv.xz"))
        .into_iter()
        .skip(1)
        .map(|row| {
            let [user, age, gender, occupation, _] = row.try_into().unwrap();
            let age = (age.parse::<u32>().unwrap() / 10).to_string();
            (
                user,
                User {
                    items: Vec::new(),
                    context: context([("gender", gender), ("age", age), ("occupation", occupation)]),
                },
            )
        })
        .collect();
    let mut rows: Vec<(i64, String, String)> = lines(&folder.join("ml-100k.inter.tsv.xz"))
        .into_iter()
        .skip(1)
        .map(|row| (row[3].parse::<f64>().unwrap() as i64, row[0].clone(), row[1].clone()))
        .collect();
    // Ties are in the order of the file.
    rows.sort_by_key(|row| row.0);
    for (_, user, item) in rows {
        users.get_mut(&user).unwrap().items.push(item);
    }
    users
}

/// What one new user is to the global list and to that of the segment: a hit of the first interaction at each of [`LENGTHS`], then the
/// share of the first ten that the user goes on to choose.
type Judged = ([f64; 3], [f64; 3]);

fn measure(name: &str, keys: &[String], users: &BTreeMap<String, User>) {
    let (mut judged, mut num_lists, mut num_taken) = (Vec::new(), BTreeSet::new(), 0);
    for fold in 0..FOLDS {
        let is_new = |id: &str| usize::from(Sha256Hash::of(id.as_bytes()).as_bytes()[0]) % FOLDS == fold;
        let folder = tempfile::tempdir().unwrap();
        write_log(&folder.path().join("interactions.tsv"), keys, users, &is_new);
        let columns = ColumnMap { context: keys.to_vec(), ..ColumnMap::default() };
        let dataset = Dataset::read_mapped(folder.path(), &columns, &mut |_| {}).unwrap();
        let split = split::split(&dataset, SplitKind::NextClick).unwrap();
        let lists = counted(&dataset.interactions, &split, keys).unwrap();
        let taken = segments(&dataset.interactions, &split, keys).unwrap();
        num_taken += usize::from(!taken.segments.is_empty());
        num_lists.insert(lists.segments.len());
        let id = |row: &u32| split.vocabulary.item_ids[*row as usize].as_str();
        let global: Vec<&str> = (0..*LENGTHS.iter().max().unwrap() as u32).map(|row| id(&row)).collect();
        for user in users.iter().filter(|(id, _)| is_new(id)).map(|(_, user)| user) {
            let own: Vec<&str> = lists.of(&user.context).iter().map(id).collect();
            if !own.is_empty() {
                judged.push((judge(&global, user), judge(&own, user)));
            }
        }
    }
    let lists = num_lists.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ");
    let share = 100.0 * judged.len() as f64 / users.len() as f64;
    let keys = keys.join(", then ");
    println!(
        "| {name}, {keys} | {lists} | {num_taken} of {FOLDS} | {} ({share:.0} %) | | | | |",
        judged.len()
    );
    print(&judged);
}

/// The others train, one of fifty of them validates, and the new ones test.
fn write_log(path: &Path, keys: &[String], users: &BTreeMap<String, User>, is_new: &dyn Fn(&str) -> bool) {
    let header = ["user_id", "item_id", "split"].into_iter().chain(keys.iter().map(String::as_str));
    let mut table = header.collect::<Vec<_>>().join("\t");
    for (at, (id, user)) in users.iter().enumerate() {
        let part = match is_new(id) {
            true => "test",
            false if at % 50 == 0 => "validation",
            false => "train",
        };
        let context = keys.iter().map(|key| user.context[key].as_str()).collect::<Vec<_>>().join("\t");
        table.extend(user.items.iter().map(|item| format!("\n{id}\t{item}\t{part}\t{context}")));
    }
    std::fs::write(path, table).unwrap();
}

fn judge(list: &[&str], user: &User) -> [f64; 3] {
    let hit = |length: usize| f64::from(u8::from(list[..length].contains(&user.items[0].as_str())));
    let chosen = list[..10].iter().filter(|id| user.items.iter().any(|item| item == *id)).count();
    [hit(LENGTHS[0]), hit(LENGTHS[1]), chosen as f64 / 10.0]
}

fn print(judged: &[Judged]) {
    for (at, measure) in ["HR@10 of the first", "HR@50 of the first", "precision@10"].into_iter().enumerate()
    {
        let (global, _) = mean(judged.iter().map(|one| one.0[at]));
        let (own, _) = mean(judged.iter().map(|one| one.1[at]));
        let (more, error) = mean(judged.iter().map(|one| one.1[at] - one.0[at]));
        let (low, high) = (1.96f64.mul_add(-error, more), 1.96f64.mul_add(error, more));
        println!("| | | | | {measure} | {global:.4} | {own:.4} | {more:+.4} ({low:+.4} to {high:+.4}) |");
    }
}

/// The mean and its standard error.
fn mean(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let squares: f64 = values.map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0)).sqrt() / count.sqrt())
}
