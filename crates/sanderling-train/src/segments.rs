//! What users of a country, a device class or another declared context choose, for their fallback lists.

use std::collections::BTreeMap;

use sanderling_types::{Code, Error, Result, Segment, Segments};

use crate::data::{ContextColumn, Interactions};
use crate::split::Split;

/// Fewest training users (or sessions) of a segment: a list must not tell what a handful of people chose.
pub const MIN_USERS: usize = 50;
/// Fewest training interactions of a segment.
pub const MIN_INTERACTIONS: usize = 500;
/// Fewest users of a segment that chose an item, for their choice of it to count there.
pub const MIN_ITEM_USERS: u32 = 5;
/// Most items of a list; the fallback list of everybody follows.
pub const MAX_ITEMS: usize = 100;
/// Most segments of a bundle, those with the most interactions of the first keys.
pub const MAX_SEGMENTS: usize = 200;
/// Longest value of a key, in bytes.
const MAX_VALUE_BYTES: usize = 256;
/// How many choices the popularity with everybody may weigh beside those of a segment.
const PRIORS: [f64; 8] = [30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5];
/// The first places of a list, which are what a new user sees of it.
const FIRST_PLACES: usize = 10;
/// Standard errors by which the lists of a key must hit more first interactions than the list of everybody, to be in a bundle.
const CLEAR: f64 = 2.0;

/// Lists of the segments of those of `keys` whose lists help, in rows of the vocabulary; from the training part alone and
/// without shared sessions.
///
/// A key helps where the first interaction of training users is clearly more often among the first ten items of their
/// segment's list than among the first ten of the vocabulary; each half of the users is asked with lists made of the other.
///
/// # Errors
/// [`Code::ColumnMissing`] for a key that was not read with the interactions.
pub fn segments(interactions: &Interactions, split: &Split, keys: &[String]) -> Result<Segments> {
    make(interactions, split, keys, Key::helps)
}

/// Lists of the segments of all `keys`, whether they help or not: for measuring whether they do.
///
/// A user counts once an item, and an item's place is that of `users + prior * share`: its users in the segment, where there
/// are [`MIN_ITEM_USERS`], and its share of everybody's choices (a Dirichlet prior: Zhai and Lafferty 2004, "A study of smoothing
/// methods for language models applied to information retrieval", ACM TOIS 22(2)). So a small segment is not ruled by
/// chance. `prior` is the one of eight from 30 to 100,000 under which choices of a user are likeliest, given those of all others, all users
/// weighing the same (leave-one-out, as there).
///
/// # Errors
/// As [`segments`].
pub fn counted(interactions: &Interactions, split: &Split, keys: &[String]) -> Result<Segments> {
    make(interactions, split, keys, |_, _| true)
}

fn make(
    interactions: &Interactions,
    split: &Split,
    keys: &[String],
    is_wanted: impl Fn(&Key, f64) -> bool,
) -> Result<Segments> {
    let mut out = Segments::default();
    for name in keys {
        let columns = interactions.context();
        let column = columns.iter().find(|column| column.key() == name).ok_or_else(|| {
            let names: Vec<&str> = columns.iter().map(ContextColumn::key).collect();
            Error::new(Code::ColumnMissing, format!("the context column `{name}` was not read"))
                .expected(format!("a column `{name}`"))
                .found(names.join(", "))
        })?;
        let key = Key::new(column, interactions, split, MAX_SEGMENTS - out.segments.len());
        let counts = key.counts(|_| true);
        let prior = key.likeliest_prior(&counts);
        if is_wanted(&key, prior) {
            let list = |(value, users): (&String, &Users)| Segment {
                items: counts.list(users, prior, MAX_ITEMS),
                key: name.clone(),
                value: value.clone(),
            };
            out.segments.extend(key.values.iter().zip(&counts.segments).map(list));
        }
    }
    Ok(out)
}

/// How many lists each of `keys` has, for people.
#[must_use]
pub fn describe(segments: &Segments, keys: &[String]) -> String {
    let lists = |key: &String| segments.segments.iter().filter(|segment| segment.key == *key).count();
    let told: Vec<String> = keys.iter().map(|key| format!("{key} has {}", lists(key))).collect();
    format!("fallback lists of segments: {}", told.join(", "))
}

/// What one user chose in one context.
struct Choices {
    user: u32,
    value: u32,
    num_interactions: usize,
    /// The first interaction of the user, where it was in this context.
    first: Option<u32>,
    /// Different rows, ascending.
    items: Vec<u32>,
}

/// Every user's choices by the values of `column`.
fn choices(column: &ContextColumn, interactions: &Interactions, split: &Split) -> Vec<Choices> {
    let mut out = Vec::new();
    for (training, &user) in split.training().zip(&split.users) {
        if user as usize >= interactions.users().len() {
            continue; // A shared session: what is listed to others is not for anybody to send.
        }
        let mut by_value: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut first = None;
        let mut rows = interactions.rows_of(user);
        for event in training {
            let id = split.item_id(*event).as_str();
            let is_it = |row: &usize| {
                interactions.timestamp(*row) == event.timestamp
                    && interactions.items().text(interactions.item(*row)) == id
            };
            if let Some(row) = rows.find(is_it) {
                let value = column.number(row);
                by_value.entry(value).or_default().push(event.item);
                first.get_or_insert((value, event.item));
            }
        }
        out.extend(by_value.into_iter().map(|(value, mut items)| {
            let num_interactions = items.len();
            items.sort_unstable();
            items.dedup();
            let first = first.filter(|(of, _)| *of == value).map(|(_, item)| item);
            Choices { user, value, num_interactions, first, items }
        }));
    }
    out
}

/// Values with enough users and interactions, those with the most interactions first, at most `most`.
fn large_values(column: &ContextColumn, choices: &[Choices], most: usize) -> Vec<u32> {
    let mut sizes = vec![(0, 0); column.values().len()];
    for one in choices {
        let (users, interactions) = &mut sizes[one.value as usize];
        (*users, *interactions) = (*users + 1, *interactions + one.num_interactions);
    }
    let text = |value: u32| column.values().text(value);
    let is_large = |value: &u32| {
        let (users, interactions) = sizes[*value as usize];
        users >= MIN_USERS
            && interactions >= MIN_INTERACTIONS
            && (1..=MAX_VALUE_BYTES).contains(&text(*value).len())
    };
    let mut out: Vec<u32> = (0..sizes.len() as u32).filter(is_large).collect();
    let size = |value: u32| sizes[value as usize].1;
    out.sort_by(|a, b| size(*b).cmp(&size(*a)).then_with(|| text(*a).cmp(text(*b))));
    out.truncate(most);
    out
}

/// Users by item.
#[derive(Clone)]
struct Users {
    by_item: Vec<u32>,
    total: u64,
}

impl Users {
    fn add(&mut self, items: &[u32]) {
        items.iter().for_each(|&item| self.by_item[item as usize] += 1);
        self.total += items.len() as u64;
    }

    /// Share of an item in all choices but `left_out` of them, `of_it` of it; none is 0.
    fn share(&self, item: u32, of_it: u32, left_out: usize) -> f64 {
        let count = f64::from(self.by_item[item as usize] - of_it) + 1.0;
        count / ((self.total - left_out as u64) as f64 + self.by_item.len() as f64)
    }
}

/// Counts of some users.
struct Counts {
    everybody: Users,
    /// One for each of [`Key::values`].
    segments: Vec<Users>,
}

impl Counts {
    /// The first `len` items for a segment.
    fn list(&self, users: &Users, prior: f64, len: usize) -> Vec<u32> {
        let worth = |item: u32| {
            let count = users.by_item[item as usize];
            let counted = if count < MIN_ITEM_USERS { 0 } else { count };
            prior.mul_add(self.everybody.share(item, 0, 0), f64::from(counted))
        };
        let chosen =
            (0..users.by_item.len() as u32).filter(|item| self.everybody.by_item[*item as usize] > 0);
        let mut ranked: Vec<(f64, u32)> = chosen.map(|item| (worth(item), item)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        ranked.into_iter().take(len).map(|(_, item)| item).collect()
    }
}

/// What users chose by the values of a key.
struct Key {
    num_items: usize,
    /// The segments.
    values: Vec<String>,
    /// What each user chose, with its segment, where there is one.
    choices: Vec<(Option<usize>, Choices)>,
}

impl Key {
    fn new(column: &ContextColumn, interactions: &Interactions, split: &Split, most: usize) -> Self {
        let choices = choices(column, interactions, split);
        let values = large_values(column, &choices, most);
        let segment = |one: &Choices| values.iter().position(|value| *value == one.value);
        Self {
            num_items: split.vocabulary.len(),
            choices: choices.into_iter().map(|one| (segment(&one), one)).collect(),
            values: values.iter().map(|value| column.values().text(*value).to_owned()).collect(),
        }
    }

    /// Counts of the users that `is_counted`.
    fn counts(&self, is_counted: impl Fn(u32) -> bool) -> Counts {
        let nobody = Users { by_item: vec![0; self.num_items], total: 0 };
        let mut out = Counts { segments: vec![nobody.clone(); self.values.len()], everybody: nobody };
        for (segment, one) in self.choices.iter().filter(|(_, one)| is_counted(one.user)) {
            out.everybody.add(&one.items);
            if let Some(segment) = segment {
                out.segments[*segment].add(&one.items);
            }
        }
        out
    }

    /// The prior under which a choice of each user is likeliest, by the mean of logarithms, given the choices of all others.
    fn likeliest_prior(&self, counts: &Counts) -> f64 {
        let likelihood = |prior: f64| -> f64 {
            let of_segments = self.choices.iter().filter_map(|(segment, one)| Some(((*segment)?, one)));
            let of_user = |(segment, one): (usize, &Choices)| {
                let (own, users) = (one.items.len(), &counts.segments[segment]);
                let others = (users.total - own as u64) as f64;
                let of_item = |&item: &u32| {
                    let count = f64::from(users.by_item[item as usize] - 1);
                    (prior.mul_add(counts.everybody.share(item, 1, own), count) / (others + prior)).ln()
                };
                one.items.iter().map(of_item).sum::<f64>() / own as f64
            };
            of_segments.map(of_user).sum()
        };
        let measured = PRIORS.map(|prior| (likelihood(prior), prior));
        measured.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).map_or(PRIORS[0], |(_, prior)| prior)
    }

    /// See [`segments`].
    fn helps(&self, prior: f64) -> bool {
        let mut gains = Vec::new();
        for half in [0, 1] {
            let counts = self.counts(|user| user % 2 != half);
            let list = |users: &Users| counts.list(users, prior, FIRST_PLACES);
            let lists: Vec<Vec<u32>> = counts.segments.iter().map(list).collect();
            for (segment, one) in self.choices.iter().filter(|(_, one)| one.user % 2 == half) {
                if let (Some(segment), Some(first)) = (segment, one.first) {
                    let is_hit = lists[*segment].contains(&first);
                    let was_hit = (first as usize) < FIRST_PLACES;
                    gains.push(f64::from(i8::from(is_hit) - i8::from(was_hit)));
                }
            }
        }
        let sum: f64 = gains.iter().sum();
        let mean = sum / gains.len().max(1) as f64;
        let squares: f64 = gains.iter().map(|gain| (gain - mean).powi(2)).sum();
        sum > CLEAR * squares.sqrt()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests;
