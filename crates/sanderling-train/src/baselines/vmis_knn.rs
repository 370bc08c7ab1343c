//! `vmis-knn`.

use std::collections::VecDeque;

use sanderling_types::TimeKind;

use super::Baseline;
use crate::split::Split;

/// Newest sessions that an item remembers.
const RECENT_SESSIONS: usize = 500;
/// Sessions that vote.
const NEIGHBOURS: usize = 100;
/// Newest items of a history that look for neighbours.
const MAX_QUERY: usize = 9;
/// Newest clicks of a session that count, so that robots cost no time.
const MAX_SESSION: usize = 500;

/// Vector-multiplication-indexed session nearest neighbours (Kersbergen, Sprangers and Schelter 2022,
/// "Serenade"). A history of `L` items, at most the newest 9, has an item at place `p` (1 is the
/// oldest, the newest place of an item counts) weigh `p / L`. A session that shares items with it is
/// as near as their weights add up to; among the newest 500 sessions of each item the 100 nearest
/// vote, ties for the newer session. A vote for every distinct item of the session is the nearness
/// times `1 - 0.1 (L - p + 1)` for the newest shared place `p`, times the item's
/// `ln(1 + sessions / sessions with the item)`.
///
/// Nothing is trained: [`Self::append`] makes a new session count at once.
#[derive(Debug, Clone, PartialEq)]
pub struct VmisKnn {
    /// Distinct items of every session, each at its newest place, one session after the other.
    items: Vec<u32>,
    /// Where each session ends in `items`.
    ends: Vec<usize>,
    /// The newest sessions of each item, oldest first.
    sessions_of: Vec<VecDeque<u32>>,
    /// Sessions of each item, forgotten ones included.
    counts: Vec<u32>,
}

impl VmisKnn {
    /// Knows no session yet; items are rows below `num_items`.
    #[must_use]
    pub fn new(num_items: usize) -> Self {
        Self {
            items: Vec::new(),
            ends: Vec::new(),
            sessions_of: vec![VecDeque::new(); num_items],
            counts: vec![0; num_items],
        }
    }

    /// Appends the training sequences, oldest first by their last interaction, or as the log lists
    /// them where there are no timestamps.
    #[must_use]
    pub fn fit(split: &Split) -> Self {
        let mut sessions: Vec<_> = split.training().filter(|events| !events.is_empty()).collect();
        if split.time == TimeKind::UnixSeconds {
            sessions.sort_by_key(|events| events.last().map(|event| event.timestamp));
        }
        let mut fitted = Self::new(split.vocabulary.len());
        for events in sessions {
            fitted.append(&split.rows(events).collect::<Vec<u32>>());
        }
        fitted
    }

    /// Adds the newest session, given as rows, oldest first, each below `num_items`. Only its newest
    /// 500 count. Takes time in proportion to its length.
    pub fn append(&mut self, session: &[u32]) {
        let newest = &session[session.len().saturating_sub(MAX_SESSION)..];
        let items = newest_places(newest);
        if items.is_empty() {
            return;
        }
        let number = self.ends.len() as u32;
        for &item in &items {
            let sessions = &mut self.sessions_of[item as usize];
            if sessions.len() == RECENT_SESSIONS {
                sessions.pop_front();
            }
            sessions.push_back(number);
            self.counts[item as usize] += 1;
        }
        self.items.extend(items);
        self.ends.push(self.items.len());
    }

    /// Items that have been in a session or may be in one.
    pub(super) fn num_items(&self) -> usize {
        self.counts.len()
    }

    /// Sessions so far.
    pub(super) fn num_sessions(&self) -> usize {
        self.ends.len()
    }

    /// Sessions that an item was in, forgotten ones included.
    pub(super) fn count(&self, item: u32) -> u32 {
        self.counts[item as usize]
    }

    /// The newest sessions of an item, oldest first, each as its distinct items in order.
    pub(super) fn sessions_with(&self, item: u32) -> impl Iterator<Item = &[u32]> {
        self.sessions_of[item as usize].iter().map(|&number| self.session(number))
    }

    /// Distinct items of a session, each at its newest place.
    fn session(&self, number: u32) -> &[u32] {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.items[start..self.ends[number]]
    }

    /// The nearest sessions with the weight of their votes, in order of age.
    fn neighbours(&self, query: &[u32]) -> Vec<(u32, f32)> {
        // Session in the high half, place in the low half: numbers sort faster than pairs.
        let mut shared: Vec<u64> = Vec::new();
        for (at, item) in query.iter().enumerate() {
            if !query[at + 1..].contains(item) {
                let sessions = self.sessions_of[*item as usize].iter();
                shared.extend(sessions.map(|&session| u64::from(session) << 32 | (at as u64 + 1)));
            }
        }
        // Stable, because that sort makes use of the ascending run of every item.
        shared.sort();
        let len = query.len() as f32;
        let mut near: Vec<(u32, f32, u32)> = Vec::new();
        for key in shared {
            let (session, place) = ((key >> 32) as u32, key as u32);
            let weight = place as f32 / len;
            match near.last_mut() {
                // Places of a session ascend, so the last one is the newest.
                Some((last, sum, newest)) if *last == session => (*sum, *newest) = (*sum + weight, place),
                _ => near.push((session, weight, place)),
            }
        }
        if near.len() > NEIGHBOURS {
            near.select_nth_unstable_by(NEIGHBOURS, |a, b| b.1.total_cmp(&a.1).then(b.0.cmp(&a.0)));
            near.truncate(NEIGHBOURS);
        }
        near.sort_unstable_by_key(|&(session, ..)| session);
        let vote = |place: u32| 1.0 - 0.1 * (len - place as f32 + 1.0);
        near.into_iter().map(|(session, sum, newest)| (session, sum * vote(newest))).collect()
    }
}

/// The distinct items of a session, oldest first, each at its newest place.
fn newest_places(session: &[u32]) -> Vec<u32> {
    let mut places: Vec<(u32, usize)> = session.iter().copied().zip(0..).collect();
    places.sort_unstable();
    let is_newest = |at: usize| places.get(at + 1).is_none_or(|next| next.0 != places[at].0);
    let mut newest: Vec<(u32, usize)> =
        (0..places.len()).filter(|&at| is_newest(at)).map(|at| places[at]).collect();
    newest.sort_unstable_by_key(|&(_, place)| place);
    newest.into_iter().map(|(item, _)| item).collect()
}

impl Baseline for VmisKnn {
    fn name(&self) -> &'static str {
        "vmis-knn"
    }

    fn score(&self, history: &[u32], scores: &mut [f32]) {
        let query = &history[history.len().saturating_sub(MAX_QUERY)..];
        let mut voted = Vec::new();
        for (session, vote) in self.neighbours(query) {
            for &item in self.session(session) {
                // Votes are above zero, so a score of zero has had none.
                if scores[item as usize] == 0.0 {
                    voted.push(item);
                }
                scores[item as usize] += vote;
            }
        }
        let num_sessions = self.ends.len() as f32;
        for item in voted {
            let rarity = (num_sessions / self.counts[item as usize] as f32).ln_1p();
            scores[item as usize] *= rarity;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baselines::tests::{split_at, split_of};

    fn with(num_items: usize, sessions: &[&[u32]]) -> VmisKnn {
        let mut knn = VmisKnn::new(num_items);
        sessions.iter().for_each(|session| knn.append(session));
        knn
    }

    #[track_caller]
    fn check(knn: &VmisKnn, history: &[u32], expected: &[f32]) {
        let mut scores = vec![0.0; expected.len()];
        knn.score(history, &mut scores);
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4 * b.abs().max(1.0);
        assert!(scores.iter().zip(expected).all(close), "{scores:?}, not {expected:?}");
    }

    #[test]
    fn three_sessions_by_hand() {
        let knn = with(3, &[&[0, 1], &[1, 2], &[2, 0, 2]]);
        let rarity = 2.5f32.ln();
        // Places: 0 has 1 of 2, 2 has 2 of 2. Nearness 0.5, 1, 1.5; newest shared place 1, 2, 2.
        let votes = [0.5 * 0.8, 1.0 * 0.9, 1.5 * 0.9];
        let expected = [votes[0] + votes[2], votes[0] + votes[1], votes[1] + votes[2]];
        check(&knn, &[0, 2], &expected.map(|sum| sum * rarity));
        // The newest place of a repeated item counts: 0 has 3 of 3, 1 has 2 of 3.
        let votes = [(1.0 + 2.0 / 3.0) * 0.9, 2.0 / 3.0 * 0.8, 1.0 * 0.9];
        let expected = [votes[0] + votes[2], votes[0] + votes[1], votes[1] + votes[2]];
        check(&knn, &[0, 1, 0], &expected.map(|sum| sum * rarity));
        check(&knn, &[], &[0.0; 3]);
    }

    #[test]
    fn only_the_newest_nine_items_ask() {
        let knn = with(12, &[&[0, 9, 10], &[1, 9, 11]]);
        // Of nine places item 9 has the last and item 1 the first; item 0 is too old to have one.
        let votes = [0.9, 0.9 * (1.0 + 1.0 / 9.0)];
        let (common, rare) = (2.0f32.ln(), 3.0f32.ln());
        let mut expected = [0.0; 12];
        (expected[0], expected[10]) = (votes[0] * rare, votes[0] * rare);
        (expected[1], expected[11]) = (votes[1] * rare, votes[1] * rare);
        expected[9] = (votes[0] + votes[1]) * common;
        check(&knn, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], &expected);
    }

    #[test]
    fn a_hundred_sessions_vote_and_of_equals_the_newest() {
        let mut knn = with(3, &[&[0, 1]]);
        (0..NEIGHBOURS - 1).for_each(|_| knn.append(&[0, 2]));
        let mut scores = [0.0; 3];
        knn.score(&[0], &mut scores);
        assert!(scores[1] > 0.0, "the oldest is the hundredth: {scores:?}");
        knn.append(&[0, 2]);
        scores.fill(0.0);
        knn.score(&[0], &mut scores);
        assert!(scores[1] == 0.0 && scores[2] > 0.0, "a new session counts at once: {scores:?}");
    }

    #[test]
    fn an_item_forgets_its_oldest_sessions() {
        let mut knn = with(4, &[&[0, 1, 3]]);
        (0..RECENT_SESSIONS).for_each(|_| knn.append(&[0, 2]));
        let mut scores = [0.0; 4];
        knn.score(&[0, 1], &mut scores);
        // Reached by item 1 alone; item 0 would have added a half.
        let expected = 0.9 * (1.0 + (RECENT_SESSIONS + 1) as f32).ln();
        assert!((scores[3] - expected).abs() < 1e-4, "{} is not {expected}", scores[3]);
    }

    #[test]
    fn fitting_in_two_steps_is_fitting_at_once() {
        let sequences: Vec<Vec<u32>> =
            (0..3000u32).map(|user| (0..user % 5).map(|at| (user * 7 + at * at) % 11).collect()).collect();
        let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let fit = |sequences| VmisKnn::fit(&split_of(sequences, 11, TimeKind::Order));
        let mut stepwise = fit(&sequences[..700]);
        sequences[700..].iter().for_each(|session| stepwise.append(session));
        assert_eq!(stepwise, fit(&sequences));
        assert!(stepwise.sessions_of.iter().any(|sessions| sessions.len() == RECENT_SESSIONS));
    }

    #[test]
    fn sessions_are_appended_in_the_order_of_their_last_interaction() {
        let sessions: [&[(u32, i64)]; 2] = [&[(0, 5), (1, 30)], &[(0, 10), (2, 20)]];
        let by_time = VmisKnn::fit(&split_at(&sessions, 3, TimeKind::UnixSeconds));
        assert_eq!(by_time, with(3, &[&[0, 2], &[0, 1]]));
        assert_eq!(VmisKnn::fit(&split_at(&sessions, 3, TimeKind::Order)), with(3, &[&[0, 1], &[0, 2]]));
    }
}
