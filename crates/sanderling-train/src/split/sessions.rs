//! Shared sessions as training sequences.

use std::collections::HashMap;

use sanderling_types::{ItemId, SharedSession, TimeKind};
use serde::Serialize;

use super::{Event, Split};

/// Interactions of sessions, over those of the logs, that train at most: anybody can send a session that nobody had, so
/// what sessions can do to a model is bounded whatever they say.
const MAX_SHARE: f64 = 0.5;
/// The user of a session, which is nobody in the data set.
const NOBODY: u32 = u32::MAX;

/// What became of shared sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SessionsUsed {
    /// Sessions that were there.
    pub found: u64,
    /// Sessions that train.
    pub used: u64,
    /// Their interactions.
    pub interactions: u64,
}

impl Split {
    /// Adds sessions to the training part, the newest first, as far as they
    /// - ended before the first interaction that validates or tests: somebody whose session is shared may be in the logs too;
    /// - have two items that the logs' training part has, so that no session makes an item one that was trained;
    /// - are together at most half as many interactions as those of the logs.
    ///
    /// Cases stay what they are, so measures with and without sessions can be compared.
    pub fn append_sessions(&mut self, sessions: &[SharedSession]) -> SessionsUsed {
        let mut out = SessionsUsed { found: sessions.len() as u64, ..SessionsUsed::default() };
        let cases = self.validation.iter().chain(&self.test);
        let first_answer = cases.map(|case| self.target(*case).timestamp).min();
        let (TimeKind::UnixSeconds, Some(first_answer)) = (self.time, first_answer) else { return out };
        let most = (self.training().map(|events| events.len() as u64).sum::<u64>() as f64 * MAX_SHARE) as u64;
        let ended = |session: &&SharedSession| {
            session.day.saturating_add(i64::from(SharedSession::DAY_SECONDS)) <= first_answer
        };
        let mut newest_first: Vec<&SharedSession> = sessions.iter().filter(ended).collect();
        newest_first.sort_by(|a, b| (b.day, &b.session_id).cmp(&(a.day, &a.session_id)));
        let rows: HashMap<&ItemId, u32> =
            self.vocabulary.item_ids[..self.num_trained()].iter().zip(0..).collect();
        let events = |session: &SharedSession| -> Vec<Event> {
            let known = session.interactions.iter().filter_map(|one| rows.get(&one.item_id));
            known.zip(session.day..).map(|(&item, timestamp)| Event { item, timestamp }).collect()
        };
        let sequences: Vec<Vec<Event>> = newest_first.into_iter().map(events).collect();
        for sequence in sequences {
            let interactions = out.interactions + sequence.len() as u64;
            if sequence.len() < 2 || interactions > most {
                continue;
            }
            (out.used, out.interactions) = (out.used + 1, interactions);
            self.train_len.push(sequence.len() as u32);
            self.users.push(NOBODY);
            self.sequences.push(sequence);
        }
        self.num_shared += out.interactions;
        out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sanderling_types::{FORMAT_VERSION, FeatureSpec, Interaction, Item, Sha256Hash, SharedInteraction};

    use super::super::{SplitKind, split};
    use super::*;
    use crate::data::Dataset;
    use crate::rankers::leaks;

    const DAY: i64 = 86_400;

    /// Ten days with ten interactions each: eight train. An item of the catalogue has none.
    fn logs() -> Split {
        let act = |at: i64| Interaction {
            user_id: format!("u{}", at % 10).as_str().into(),
            item_id: format!("i{}", at % 7).as_str().into(),
            kind: "view".to_owned(),
            timestamp: at * DAY / 10,
            value: None,
            split: None,
        };
        let untouched = Item {
            item_id: "untouched".into(),
            title: "described".to_owned(),
            categories: vec!["hats".to_owned()],
            price: None,
            published_at: None,
            attributes: BTreeMap::new(),
        };
        let data = Dataset::new((0..100).map(act), vec![untouched], TimeKind::UnixSeconds).expect("fits");
        split(&data, SplitKind::Time).expect("divides")
    }

    fn session(number: u32, day: i64, items: &[&str]) -> SharedSession {
        let one = |item: &&str| SharedInteraction { item_id: ItemId::from(*item), kind: "view".to_owned() };
        SharedSession {
            format_version: FORMAT_VERSION,
            session_id: format!("{number:032x}"),
            bundle_sha256: Sha256Hash::of(b"a bundle"),
            day: day * DAY,
            interactions: items.iter().map(one).collect(),
            padding: String::new(),
        }
    }

    #[test]
    fn sessions_from_before_the_answers_train_and_cases_stay() {
        let (mut with, without) = (logs(), logs());
        let sessions = [
            session(1, 6, &["i1", "unknown", "i2"]),
            session(2, 7, &["i3", "i4", "untouched", "i5"]),
            session(3, 8, &["i1", "i2"]),
            session(4, 5, &["i1", "unknown"]),
        ];
        let used = with.append_sessions(&sessions);
        leaks::check_sources(&with, &FeatureSpec::standard()).expect("nothing leaks");
        assert_eq!(used, SessionsUsed { found: 4, used: 2, interactions: 5 }, "not the late, not the short");
        assert_eq!((&with.validation, &with.test), (&without.validation, &without.test));
        let added: Vec<Vec<&str>> = with.sequences[without.sequences.len()..]
            .iter()
            .map(|events| events.iter().map(|&event| with.item_id(event).as_str()).collect())
            .collect();
        assert_eq!(added, [vec!["i3", "i4", "i5"], vec!["i1", "i2"]]);
        assert_eq!(with.training_counts().3, without.training_counts().3 + 5);
        assert_eq!(with.vocabulary, without.vocabulary, "nobody makes an item up");
    }

    #[test]
    fn forged_sessions_are_at_most_half_as_much_as_the_logs() {
        let mut flooded = logs();
        let before = flooded.training_counts().3;
        let sessions: Vec<SharedSession> =
            (0..500).map(|i| session(i, i64::from(i % 7), &["i1", "i1", "i1"])).collect();
        let used = flooded.append_sessions(&sessions);
        assert_eq!(used.interactions, before / 2 / 3 * 3);
        let added = &flooded.sequences[flooded.sequences.len() - used.used as usize..];
        assert!(added.iter().all(|events| events[0].timestamp == 6 * DAY), "the newest come first");
    }
}
