//! Splits: which interactions train, which choose, and which report.

mod sessions;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sanderling_types::{
    Code, Error, Item, ItemId, Result, Segments, Sha256Hash, SplitPart, TimeKind, Vocabulary,
};
use serde::{Deserialize, Serialize};

use crate::candidates::Candidates;
use crate::content::has_content;
use crate::data::{Dataset, Ids, Interactions};

pub use sessions::SessionsUsed;

/// Most validation cases used to choose between models; more say nothing new.
const MAX_CHOOSING_CASES: usize = 2000;
/// Most validation cases that a packed model is measured on beside the model that it was made of.
const MAX_MEASURING_CASES: usize = 25_000;
/// Scores of items that such a measurement may compute, in all cases together.
const MAX_MEASURED_SCORES: usize = 400_000_000;

/// Most sessions that validate. The newest sessions tell most about the next ones, so training keeps
/// what choosing between models does not need.
const MAX_VALIDATION_SESSIONS: usize = 2000;

/// How the data is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitKind {
    /// The last tenth of the time tests, the tenth before validates, everything earlier trains.
    /// Every later interaction with a history is a case, and histories roll forward.
    Time,
    /// Each user's last interaction tests, the one before validates.
    LeaveOneOut,
    /// A tenth of the items that the catalogue says something about lose every interaction; each user's last
    /// interaction with one of them tests, the last one with any other item validates. For measuring what a
    /// recommender knows of items that nobody has touched.
    HeldOutItems,
    /// Every prefix of a test session is a case. Uses the `split` column where the data has one,
    /// else the last tenth of the sessions; of the last tenth of the remaining ones, the newest 2,000 at
    /// most validate.
    NextClick,
}

impl SplitKind {
    /// The name in recipes, on the command line and in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SplitKind::Time => "time",
            SplitKind::HeldOutItems => "held-out-items",
            SplitKind::LeaveOneOut => "leave-one-out",
            SplitKind::NextClick => "next-click",
        }
    }
}

/// One interaction in vocabulary rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Row of the item in the vocabulary; from its length on, a place in [`Split::unseen_ids`].
    pub item: u32,
    /// Unix seconds or a position.
    pub timestamp: i64,
}

/// A question with a known answer: after the first `prefix` events of sequence `user`, what is the
/// next one?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Index of the sequence.
    pub user: u32,
    /// Number of events that are known.
    pub prefix: u32,
}

/// Divided data in vocabulary rows.
#[derive(Debug)]
pub struct Split {
    /// How it was divided.
    pub kind: SplitKind,
    /// Items with training interactions, most popular first, then those of which the catalogue says enough to
    /// make a vector without any.
    pub vocabulary: Vocabulary,
    /// Ids of items that only later parts hold and the catalogue says nothing about.
    pub unseen_ids: Vec<ItemId>,
    /// Everything each user (or session) did, oldest first; training part, then the rest.
    pub sequences: Vec<Vec<Event>>,
    /// Number of the user (or session) in the data set, one a sequence: whoever has a test case of held-out
    /// items has two sequences. A shared session has a number that no user has.
    pub users: Vec<u32>,
    /// Interactions of shared sessions among those for training. Popularity does not count them: what is listed to everybody
    /// is not for anybody to send.
    pub num_shared: u64,
    /// How many events of each sequence are for training.
    pub train_len: Vec<u32>,
    /// Cases to choose models by.
    pub validation: Vec<Case>,
    /// Cases to report.
    pub test: Vec<Case>,
    /// Whether items of the history are left out of lists: true where users hardly ever repeat.
    pub exclude_seen: bool,
    /// What timestamps mean.
    pub time: TimeKind,
    /// What answers are looked for among.
    pub candidates: Candidates,
    /// What fallback lists of segments begin with; none until somebody counts them, see [`crate::segments`].
    pub segments: Segments,
}

impl Split {
    /// Rows of the vocabulary with training interactions; they come first.
    #[must_use]
    pub fn num_trained(&self) -> usize {
        self.vocabulary.popularity.partition_point(|&count| count > 0)
    }

    /// The row of an item of the vocabulary.
    #[must_use]
    pub fn row(&self, event: Event) -> Option<u32> {
        ((event.item as usize) < self.vocabulary.len()).then_some(event.item)
    }

    /// The outside id of any item.
    #[must_use]
    pub fn item_id(&self, event: Event) -> &ItemId {
        let row = event.item as usize;
        let unseen = || &self.unseen_ids[row - self.vocabulary.len()];
        self.vocabulary.item_ids.get(row).unwrap_or_else(unseen)
    }

    /// Rows of the items of the vocabulary, oldest first.
    pub fn rows(&self, events: &[Event]) -> impl DoubleEndedIterator<Item = u32> {
        events.iter().filter_map(|&event| self.row(event))
    }

    /// What is known in a case, oldest first.
    #[must_use]
    pub fn history(&self, case: Case) -> &[Event] {
        &self.sequences[case.user as usize][..case.prefix as usize]
    }

    /// What happened next in a case.
    #[must_use]
    pub fn target(&self, case: Case) -> Event {
        self.sequences[case.user as usize][case.prefix as usize]
    }

    /// At most 2,000 evenly spaced validation cases: enough to choose between models by.
    #[must_use]
    pub fn choosing_cases(&self) -> Vec<Case> {
        self.validation_cases(MAX_CHOOSING_CASES)
    }

    /// At most 25,000 evenly spaced validation cases, and fewer in a large catalogue: enough to see what a
    /// step of packing costs.
    #[must_use]
    pub fn measuring_cases(&self) -> Vec<Case> {
        let affordable = MAX_MEASURED_SCORES / self.vocabulary.len().max(1);
        self.validation_cases(affordable.clamp(MAX_CHOOSING_CASES, MAX_MEASURING_CASES))
    }

    /// At most `most` evenly spaced validation cases.
    #[must_use]
    pub fn validation_cases(&self, most: usize) -> Vec<Case> {
        let len = self.validation.len();
        let kept = len.min(most);
        (0..kept).map(|i| self.validation[i * len / kept]).collect()
    }

    /// Training sequences in rows, empty ones included.
    pub fn training(&self) -> impl Iterator<Item = &[Event]> {
        self.sequences.iter().zip(&self.train_len).map(|(sequence, &len)| &sequence[..len as usize])
    }

    /// Earliest and latest training timestamp and the numbers of training users and interactions.
    #[must_use]
    pub fn training_counts(&self) -> (i64, i64, u64, u64) {
        let times = || self.training().flatten().map(|event| event.timestamp);
        let users = self.training().filter(|sequence| !sequence.is_empty()).count() as u64;
        let interactions = self.training().map(|sequence| sequence.len() as u64).sum();
        (times().min().unwrap_or(0), times().max().unwrap_or(0), users, interactions)
    }
}

/// An interaction with the part that it belongs to.
#[derive(Debug, Clone, Copy)]
struct LogEvent {
    /// Number of the item in the dataset.
    item: u32,
    timestamp: i64,
    part: SplitPart,
}

/// One user's interactions.
struct UserLog {
    /// Number of the user in the dataset.
    user: u32,
    events: Vec<LogEvent>,
    /// Leading events that are only history: they neither train nor make cases.
    num_context: usize,
}

impl UserLog {
    /// Items of the training part.
    fn training(&self) -> impl Iterator<Item = u32> {
        let events = self.events[self.num_context..].iter();
        events.filter(|event| event.part == SplitPart::Train).map(|event| event.item)
    }
}

/// Divides `dataset`.
///
/// # Errors
/// [`Code::SplitUnsupported`] when the data cannot be divided this way, [`Code::EmptyData`] when
/// nothing is left to train, validate or test on.
pub fn split(dataset: &Dataset, kind: SplitKind) -> Result<Split> {
    let mut logs = user_logs(&dataset.interactions);
    match kind {
        SplitKind::Time => divide_by_time(&mut logs, dataset)?,
        SplitKind::LeaveOneOut => divide_leave_one_out(&mut logs),
        SplitKind::HeldOutItems => hold_out_items(&mut logs, dataset),
        SplitKind::NextClick => divide_sessions(&mut logs, &dataset.interactions)?,
    }
    let ids = dataset.interactions.items();
    let vocabulary = build_vocabulary(&logs, dataset)?;
    let mut rows = Rows::new(ids, &vocabulary);
    let mut out = Split {
        kind,
        sequences: Vec::with_capacity(logs.len()),
        users: Vec::with_capacity(logs.len()),
        num_shared: 0,
        train_len: Vec::with_capacity(logs.len()),
        validation: Vec::new(),
        test: Vec::new(),
        exclude_seen: repeats_are_rare(&logs),
        time: dataset.time,
        candidates: Candidates::Catalogue,
        segments: Segments::default(),
        vocabulary,
        unseen_ids: Vec::new(),
    };
    // Each log is gone when its sequence is there: both of all users would take twice the memory.
    for (sequence, log) in logs.into_iter().enumerate() {
        for (prefix, event) in log.events.iter().enumerate().skip(log.num_context.max(1)) {
            let case = Case { user: sequence as u32, prefix: prefix as u32 };
            match event.part {
                SplitPart::Train => {}
                SplitPart::Validation => out.validation.push(case),
                SplitPart::Test => out.test.push(case),
            }
        }
        out.users.push(log.user);
        out.train_len.push(log.training().count() as u32);
        let event = |event: &LogEvent| Event { item: rows.of(event.item), timestamp: event.timestamp };
        out.sequences.push(log.events.iter().map(event).collect());
    }
    out.unseen_ids = rows.unseen.iter().map(|&item| ids.text(item).into()).collect();
    for (cases, what) in [(&out.validation, "validation"), (&out.test, "test")] {
        if cases.is_empty() {
            return Err(Error::new(
                Code::EmptyData,
                format!("the {} split leaves no {what} case", kind.as_str()),
            )
            .expected("users with several interactions, or sessions with several clicks"));
        }
    }
    Ok(out)
}

/// Rows of the vocabulary, and of [`Split::unseen_ids`] behind it, by the numbers of items in the dataset.
struct Rows {
    rows: Vec<Option<u32>>,
    num_known: usize,
    /// Items behind the vocabulary, in the order in which they were asked for.
    unseen: Vec<u32>,
}

impl Rows {
    fn new(ids: &Ids, vocabulary: &Vocabulary) -> Self {
        let mut rows = vec![None; ids.len()];
        for (id, row) in vocabulary.item_ids.iter().zip(0..) {
            if let Some(item) = ids.number(id.as_str()) {
                rows[item as usize] = Some(row);
            }
        }
        Self { rows, num_known: vocabulary.len(), unseen: Vec::new() }
    }

    fn of(&mut self, item: u32) -> u32 {
        *self.rows[item as usize].get_or_insert_with(|| {
            self.unseen.push(item);
            (self.num_known + self.unseen.len() - 1) as u32
        })
    }
}

/// Interactions of each user in time order, users in order of first appearance.
fn user_logs(interactions: &Interactions) -> Vec<UserLog> {
    let event = |row: usize| LogEvent {
        item: interactions.item(row),
        timestamp: interactions.timestamp(row),
        part: interactions.split_part(row).unwrap_or(SplitPart::Train),
    };
    let users = 0..interactions.users().len() as u32;
    users
        .map(|user| {
            let events = interactions.rows_of(user).map(event).collect();
            UserLog { user, events, num_context: 0 }
        })
        .collect()
}

fn divide_by_time(logs: &mut [UserLog], dataset: &Dataset) -> Result<()> {
    if dataset.time == TimeKind::Order {
        return Err(Error::new(Code::SplitUnsupported, "the time split needs timestamps")
            .expected("Unix seconds")
            .found("order only")
            .hint("use --split leave-one-out for user histories or --split next-click for sessions"));
    }
    let mut times = dataset.interactions.timestamps().to_vec();
    let mut at = |tenths: usize| {
        let place = times.len() * tenths / 10;
        let found = (place < times.len()).then(|| *times.select_nth_unstable(place).1);
        found.unwrap_or(i64::MAX)
    };
    let (validation_start, test_start) = (at(8), at(9));
    for event in logs.iter_mut().flat_map(|log| &mut log.events) {
        event.part = match event.timestamp {
            t if t >= test_start => SplitPart::Test,
            t if t >= validation_start => SplitPart::Validation,
            _ => SplitPart::Train,
        };
    }
    Ok(())
}

fn divide_leave_one_out(logs: &mut [UserLog]) {
    for log in logs {
        let len = log.events.len();
        for (i, event) in log.events.iter_mut().enumerate() {
            event.part = match len - i {
                1 if len >= 3 => SplitPart::Test,
                2 if len >= 3 => SplitPart::Validation,
                _ => SplitPart::Train,
            };
        }
    }
}

fn one_in_ten(id: &ItemId) -> bool {
    Sha256Hash::of(id.as_str().as_bytes()).as_bytes()[0].is_multiple_of(10)
}

/// Takes the interactions with a tenth of the items away. What was done before the last one of a user becomes
/// the history of a test case, in a sequence of its own behind all others.
fn hold_out_items(logs: &mut Vec<UserLog>, dataset: &Dataset) {
    let ids = dataset.interactions.items();
    let mut held_out = vec![false; ids.len()];
    for item in dataset.items.iter().filter(|item| has_content(item) && one_in_ten(&item.item_id)) {
        if let Some(number) = ids.number(item.item_id.as_str()) {
            held_out[number as usize] = true;
        }
    }
    let mut tests: Vec<UserLog> = Vec::new();
    for log in logs.iter_mut() {
        let is_held_out = |event: &LogEvent| held_out[event.item as usize];
        let last = log.events.iter().rposition(is_held_out);
        let test = last.map(|last| (log.events[last], log.events[..last].to_vec()));
        log.events.retain(|event| !is_held_out(event));
        let len = log.events.len();
        for (i, event) in log.events.iter_mut().enumerate() {
            event.part = if len >= 3 && i + 1 == len { SplitPart::Validation } else { SplitPart::Train };
        }
        let Some((mut target, mut history)) = test else { continue };
        history.retain(|event| !is_held_out(event));
        if !history.is_empty() {
            target.part = SplitPart::Test;
            let num_context = history.len();
            history.push(target);
            tests.push(UserLog { user: log.user, events: history, num_context });
        }
    }
    logs.append(&mut tests);
}

/// Whole sessions are divided, by their first timestamp; a declared division must not train on what
/// comes after a validation or test interaction of the same session.
fn divide_sessions(logs: &mut [UserLog], interactions: &Interactions) -> Result<()> {
    let declared = |part| (0..interactions.len()).any(|row| interactions.split_part(row) == Some(part));
    let (has_test, has_validation) = (declared(SplitPart::Test), declared(SplitPart::Validation));
    let start = |log: &UserLog| log.events.first().map_or(i64::MAX, |event| event.timestamp);
    let assign = |logs: &mut [UserLog], part: SplitPart, most: usize| {
        let mut open: Vec<usize> =
            (0..logs.len()).filter(|&i| logs[i].events.iter().all(|e| e.part == SplitPart::Train)).collect();
        open.sort_by_key(|&i| (start(&logs[i]), i));
        for &i in &open[open.len() - (open.len() / 10).min(most)..] {
            logs[i].events.iter_mut().for_each(|event| event.part = part);
        }
    };
    if !has_test {
        assign(logs, SplitPart::Test, usize::MAX);
    }
    if !has_validation {
        assign(logs, SplitPart::Validation, MAX_VALIDATION_SESSIONS);
    }
    match logs.iter().find(|log| !log.events.is_sorted_by_key(|event| event.part)) {
        Some(log) => Err(Error::new(
            Code::SplitUnsupported,
            format!("the column split goes back in time for user {:?}", interactions.users().text(log.user)),
        )
        .expected("train, then validation, then test in the time order of every user")
        .hint("give later interactions of a session the same or a later part")),
        None => Ok(()),
    }
}

/// Whether fewer than one in twenty training interactions repeats an item of the same user.
fn repeats_are_rare(logs: &[UserLog]) -> bool {
    let (mut repeats, mut total) = (0usize, 0usize);
    for log in logs {
        let mut seen = BTreeSet::new();
        for id in log.training() {
            repeats += usize::from(!seen.insert(id));
            total += 1;
        }
    }
    repeats * 20 < total
}

/// Names that are the first category of some item before names that never are, so that the lowest
/// index of an item is its main category.
fn ordered_categories<'a>(items: impl Iterator<Item = &'a Item>) -> Result<Vec<&'a str>> {
    let mut first_place: BTreeMap<&str, usize> = BTreeMap::new();
    for item in items {
        for (place, name) in item.categories.iter().enumerate() {
            let least = first_place.entry(name).or_insert(place);
            *least = place.min(*least);
        }
    }
    if first_place.len() > Vocabulary::MAX_CATEGORIES {
        return Err(too_many_categories(first_place.len()));
    }
    let mut names: Vec<(usize, &str)> = first_place.into_iter().map(|(name, place)| (place, name)).collect();
    names.sort_unstable();
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

pub(crate) fn too_many_categories(found: usize) -> Error {
    Error::new(Code::LimitExceeded, "there are too many categories")
        .expected(format!("at most {} of all items together", Vocabulary::MAX_CATEGORIES))
        .found(found)
        .hint("leave out those of few items, or write them into the title: models learn from its words, too")
}

fn build_vocabulary(logs: &[UserLog], dataset: &Dataset) -> Result<Vocabulary> {
    let ranked = ranked_items(logs, dataset)?;
    let facts: HashMap<&str, &Item> =
        dataset.items.iter().map(|item| (item.item_id.as_str(), item)).collect();
    let facts: Vec<Option<&Item>> = ranked.iter().map(|(id, _)| facts.get(id).copied()).collect();
    let names = ordered_categories(facts.iter().copied().flatten())?;
    let categories: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let category_of: BTreeMap<&str, u16> =
        names.iter().enumerate().map(|(i, &name)| (name, i as u16)).collect();
    let categories_of = |item: &Item| -> Vec<u16> {
        let names = item.categories.iter();
        let set: BTreeSet<u16> = names.filter_map(|name| category_of.get(name.as_str()).copied()).collect();
        set.into_iter().collect()
    };
    let column = |known: bool| if known { facts.as_slice() } else { &[] };
    let has_price = facts.iter().flatten().any(|item| item.price.is_some());
    let has_age = facts.iter().flatten().any(|item| item.published_at.is_some());
    Ok(Vocabulary {
        item_ids: ranked.iter().map(|(id, _)| (*id).into()).collect(),
        item_categories: facts.iter().map(|item| item.map_or_else(Vec::new, categories_of)).collect(),
        categories,
        popularity: ranked.iter().map(|(_, count)| *count).collect(),
        prices: column(has_price).iter().map(|item| item.and_then(|item| item.price)).collect(),
        published_at: column(has_age).iter().map(|item| item.and_then(|item| item.published_at)).collect(),
    })
}

/// Items with training interactions, most first, then those without that the catalogue says enough of; with
/// their numbers of interactions. Ties by id.
fn ranked_items<'a>(logs: &[UserLog], dataset: &'a Dataset) -> Result<Vec<(&'a str, u32)>> {
    let ids = dataset.interactions.items();
    let mut counts = vec![0_u32; ids.len()];
    for item in logs.iter().flat_map(UserLog::training) {
        counts[item as usize] += 1;
    }
    let touched = ids.iter().zip(counts.iter().copied()).filter(|(_, count)| *count > 0);
    let mut ranked: Vec<(&str, u32)> = touched.collect();
    if ranked.len() < 2 {
        return Err(Error::new(Code::EmptyData, "there are too few items to learn from")
            .expected("at least 2 items with training interactions")
            .found(ranked.len()));
    }
    let is_touched = |id: &str| ids.number(id).is_some_and(|item| counts[item as usize] > 0);
    let described = dataset.items.iter().filter(|item| has_content(item)).map(|item| item.item_id.as_str());
    ranked.extend(described.filter(|id| !is_touched(id)).map(|id| (id, 0)));
    ranked.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    // A catalogue can have an item twice.
    ranked.dedup();
    Ok(ranked)
}

#[cfg(test)]
mod tests;
