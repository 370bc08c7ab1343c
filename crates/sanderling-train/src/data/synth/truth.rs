//! What really happened in a world, so that verdicts can be judged.

use sanderling_types::FORMAT_VERSION;
use serde::{Deserialize, Serialize};

use super::{
    Act, SECONDS_PER_DAY, SynthConfig,
    chance::{Chance, Purpose},
    people::People,
    shop::Shop,
    words::{CATEGORIES, NUM_CATEGORIES},
};

const NUM_RISING: usize = 3;

/// The content of `truth.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// Version of this file.
    pub format_version: u32,
    /// Always true: nothing in this world was observed.
    pub synthetic: bool,
    /// What the world was made of.
    pub config: SynthConfig,
    /// Names of the categories, in the order of every list of shares.
    pub categories: Vec<String>,
    /// Categories that a drift makes popular, as places in `categories`.
    pub rising_categories: Vec<u32>,
    /// Users whose taste the drift changed; 0 without drift.
    pub drifted_users: u32,
    /// Subcategories whose companions the drift changed, of 48; 0 without drift.
    pub changed_subcategories: u32,
    /// Day by day.
    pub days: Vec<DayTruth>,
}

/// One day of the truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DayTruth {
    /// Day of the world, from 0.
    pub day: u32,
    /// Unix seconds of its midnight.
    pub timestamp: i64,
    /// Whether the drift has happened.
    pub drifted: bool,
    /// Users who came.
    pub num_visitors: u32,
    /// What they did.
    pub num_interactions: u32,
    /// Mean over all users of the probability of every category at the start of a visit.
    pub taste_shares: Vec<f64>,
    /// Share of every category in the interactions; zeros without any.
    pub interaction_shares: Vec<f64>,
}

impl Truth {
    pub(super) fn new(config: &SynthConfig) -> Self {
        let mut chance = Chance::keyed(config.seed, Purpose::DriftRules, u32::MAX, 0);
        let mut rising: Vec<u32> = chance
            .permutation(NUM_CATEGORIES)
            .into_iter()
            .take(NUM_RISING)
            .map(|category| category as u32)
            .collect();
        rising.sort_unstable();
        Self {
            format_version: FORMAT_VERSION,
            synthetic: true,
            config: config.clone(),
            categories: CATEGORIES.iter().map(|(name, _, _)| (*name).to_owned()).collect(),
            rising_categories: rising,
            drifted_users: 0,
            changed_subcategories: 0,
            days: Vec::new(),
        }
    }

    pub(super) fn record_drift(&mut self, drifted_users: u32, changed_subcategories: u32) {
        self.drifted_users = drifted_users;
        self.changed_subcategories = changed_subcategories;
    }

    pub(super) fn record_day(&mut self, day: u32, shop: &Shop, people: &People, acts: &[Act]) {
        let mut taste_shares = vec![0.0; NUM_CATEGORIES];
        for person in &people.persons {
            let mut weights = person.category_weights();
            weights
                .iter_mut()
                .enumerate()
                .for_each(|(category, weight)| *weight *= shop.season(category, day));
            let total: f64 = weights.iter().sum();
            let per_person = total * people.persons.len() as f64;
            taste_shares.iter_mut().zip(weights).for_each(|(share, weight)| *share += weight / per_person);
        }
        let mut interaction_shares = vec![0.0; NUM_CATEGORIES];
        for act in acts {
            interaction_shares[shop.items[act.item as usize].category] += 1.0 / acts.len() as f64;
        }
        self.days.push(DayTruth {
            day,
            timestamp: self.config.start_timestamp + i64::from(day) * SECONDS_PER_DAY,
            drifted: self.config.drift_day.is_some_and(|drift_day| day >= drift_day),
            num_visitors: acts.chunk_by(|a, b| a.user == b.user).count() as u32,
            num_interactions: acts.len() as u32,
            taste_shares,
            interaction_shares,
        });
    }
}
