//! Who visits, and what they like.

use std::collections::VecDeque;

use super::{
    NO_REPEAT_WITHIN, SynthConfig,
    chance::{Chance, Purpose},
    shop::{NUM_STYLES, Style},
    words::NUM_CATEGORIES,
};

/// Spread of a user's category tastes in log space.
const CATEGORY_SPREAD: f64 = 1.3;
/// Days after which a taste has mostly moved on within its spread.
const TASTE_MEMORY_DAYS: f64 = 150.0;
/// Share of the users that a drift of strength 1 reaches.
const DRIFT_REACH: f64 = 0.9;
/// How much more than usual drifted users want the rising categories, in log space, at strength 1.
const DRIFT_PULL: f64 = 3.5;

/// One user with what nobody sees.
#[derive(Debug, Clone)]
pub(super) struct Person {
    /// Probability of a visit on an average day.
    visit_rate: f64,
    /// Log of the weight of every category, without `pull`.
    category_logits: [f64; NUM_CATEGORIES],
    /// What a drift adds to the logits.
    pull: [f64; NUM_CATEGORIES],
    pub(super) style: Style,
    /// Last items, oldest first.
    pub(super) recent: VecDeque<u32>,
    last_day: u32,
}

/// All users.
#[derive(Debug, Clone)]
pub(super) struct People {
    pub(super) persons: Vec<Person>,
    seed: u64,
}

impl People {
    pub(super) fn new(config: &SynthConfig) -> Self {
        let persons = (0..config.num_users).map(|user| Person::draw(config, user)).collect();
        Self { persons, seed: config.seed }
    }

    /// Users who come on a day, with the random numbers of their visit.
    pub(super) fn visitors(&self, day: u32) -> Vec<u32> {
        // The first of January 2026 is a Thursday; what matters is that two days in seven are busier.
        let weekday_factor = if matches!(day % 7, 2 | 3) { 1.25 } else { 0.9 };
        let comes = |user: &u32| {
            let rate = self.persons[*user as usize].visit_rate * weekday_factor;
            self.chance(day, *user, 0).happens(rate)
        };
        (0..self.persons.len() as u32).filter(comes).collect()
    }

    /// The random numbers of a user's day; `part` separates coming from walking.
    pub(super) fn chance(&self, day: u32, user: u32, part: u32) -> Chance {
        Chance::keyed(self.seed, Purpose::Visit, day << 1 | part, user)
    }

    /// Moves most users towards `rising` categories and other styles; says how many.
    pub(super) fn drift(&mut self, seed: u64, strength: f64, rising: &[u32]) -> u32 {
        let mut drifted = 0;
        for (user, person) in self.persons.iter_mut().enumerate() {
            let mut chance = Chance::keyed(seed, Purpose::DriftUser, user as u32, 0);
            if !chance.happens(DRIFT_REACH * strength.sqrt()) {
                continue;
            }
            drifted += 1;
            for category in rising {
                person.pull[*category as usize] = strength * DRIFT_PULL * (0.6 + 0.8 * chance.unit());
            }
            let keep = (1.0 - strength * strength).sqrt();
            person.style = person.style.map(|x| (keep * f64::from(x) + strength * chance.normal()) as f32);
        }
        drifted
    }
}

impl Person {
    fn draw(config: &SynthConfig, user: u32) -> Self {
        let mut chance = Chance::keyed(config.seed, Purpose::User, user, 0);
        const RATE_SPREAD: f64 = 0.7;
        let rate = (RATE_SPREAD * chance.normal() - RATE_SPREAD * RATE_SPREAD / 2.0).exp();
        Self {
            visit_rate: (config.visits_per_day * rate).min(0.75),
            category_logits: std::array::from_fn(|_| CATEGORY_SPREAD * chance.normal()),
            pull: [0.0; NUM_CATEGORIES],
            style: [0.0; NUM_STYLES].map(|_: f32| chance.normal() as f32),
            recent: VecDeque::with_capacity(NO_REPEAT_WITHIN),
            last_day: 0,
        }
    }

    /// Lets the taste move for the days since the last visit. The spread over all users stays the same, so a
    /// world without drift has none.
    pub(super) fn move_taste(&mut self, day: u32, chance: &mut Chance) {
        let keep = (-f64::from(day - self.last_day) / TASTE_MEMORY_DAYS).exp();
        let fresh = (1.0 - keep * keep).sqrt();
        for logit in &mut self.category_logits {
            *logit = keep * *logit + fresh * CATEGORY_SPREAD * chance.normal();
        }
        self.style = self.style.map(|x| (keep * f64::from(x) + fresh * chance.normal()) as f32);
        self.last_day = day;
    }

    /// Weights of the categories, not normalised.
    pub(super) fn category_weights(&self) -> [f64; NUM_CATEGORIES] {
        std::array::from_fn(|category| (self.category_logits[category] + self.pull[category]).exp())
    }

    /// Notes an item, so that it is not taken again soon.
    pub(super) fn remember(&mut self, item: u32) {
        if self.recent.len() == NO_REPEAT_WITHIN {
            self.recent.pop_front();
        }
        self.recent.push_back(item);
    }
}
