//! The embedded default world: a shop that is made up, with users whose truth is known.
//!
//! **Everything here is synthetic.** Results on this world say that the loop works, never how good
//! recommendations are for people.
//!
//! # The world
//! - Twelve categories of four subcategories each. An item has a category, a style (a unit vector of
//!   [`NUM_STYLES`] numbers around its subcategory's), a popularity with a heavy tail, a price, and a day on which
//!   it is published; new items appear every day.
//! - A user has a taste over categories and styles that moves slowly around its own mean, and a rate of visits.
//! - A visit is a walk. In *compare* mode the next item is from the same category and close in style; in *kit* mode
//!   it is from the category that goes with the last item's subcategory, and close to the last item's style as the
//!   subcategory turns it. The mode is sticky, so it shows in the two last items and not in the last alone. The
//!   user's taste weighs on every step; some steps start again from the taste. Nobody takes an item twice within
//!   50 interactions.
//! - Categories have a mild weekly and yearly season.
//! - From `drift_day` on, if there is one, most users move to three rising categories and change style, and most
//!   subcategories go with other things than before. [`World::truth`] says what happened.
//!
//! # Determinism
//! Every random number is keyed by seed, purpose, day and user, so a world of more days begins with the same days,
//! and worlds with and without drift are equal before the drift.

mod chance;
mod people;
mod shop;
mod truth;
mod visit;
mod words;

use std::{io::Write, ops::Range, path::Path};

use sanderling_types::{Interaction, Item, ItemId, Result, SessionInteraction, TimeKind, UserId};
use serde::{Deserialize, Serialize};

pub use shop::NUM_STYLES;
pub use truth::{DayTruth, Truth};

use self::{people::People, shop::Shop, visit::Visit};
use super::dataset::{DataCounts, Dataset};
use crate::folder::write_file;

/// Interactions before a device's day that [`DeviceDay::history`] holds at most.
pub const MAX_HISTORY: usize = 200;
/// Nobody takes an item twice within this many interactions.
const NO_REPEAT_WITHIN: usize = 50;

const SECONDS_PER_DAY: i64 = 86_400;
const KINDS: [&str; 3] = ["view", "cart", "purchase"];

/// What a world is made of; the same configuration gives the same world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SynthConfig {
    /// Seed of every random choice.
    pub seed: u64,
    /// Items that exist before the first day; at least 48 are made.
    pub num_items: u32,
    /// Items that appear every day, on average; 0 to 1,000.
    pub new_items_per_day: f64,
    /// Users; at least 1.
    pub num_users: u32,
    /// Days to generate.
    pub days: u32,
    /// Visits of an average user per day; 0 to 0.9.
    pub visits_per_day: f64,
    /// Unix seconds of the first midnight.
    pub start_timestamp: i64,
    /// Day from which on the world is another one.
    pub drift_day: Option<u32>,
    /// How much of the world changes at the drift, 0 (nothing) to 1 (everything).
    pub drift_strength: f64,
}

impl Default for SynthConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            num_items: 880,
            new_items_per_day: 2.0,
            num_users: 3_000,
            days: 60,
            visits_per_day: 0.11,
            start_timestamp: 1_767_225_600, // 2026-01-01T00:00:00Z
            drift_day: None,
            drift_strength: 0.8,
        }
    }
}

/// One act of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Act {
    day: u32,
    user: u32,
    item: u32,
    /// Index into [`KINDS`].
    kind: u8,
    timestamp: i64,
}

/// One day of one user's device, for replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceDay {
    /// Whose device.
    pub user_id: UserId,
    /// Day of the world, from 0.
    pub day: u32,
    /// The user's last [`MAX_HISTORY`] interactions before this day, oldest first.
    pub history: Vec<SessionInteraction>,
    /// The interactions of this day, oldest first; at least one.
    pub interactions: Vec<SessionInteraction>,
}

/// A generated world.
#[derive(Debug, Clone)]
pub struct World {
    config: SynthConfig,
    shop: Shop,
    /// By day, then user, then time.
    acts: Vec<Act>,
    truth: Truth,
}

/// Generates a world of `config.days` days.
#[must_use]
pub fn synth(config: &SynthConfig) -> World {
    let config = SynthConfig {
        num_items: config.num_items.max(48),
        num_users: config.num_users.max(1),
        new_items_per_day: config.new_items_per_day.clamp(0.0, 1_000.0),
        visits_per_day: config.visits_per_day.clamp(0.0, 0.9),
        drift_strength: config.drift_strength.clamp(0.0, 1.0),
        ..config.clone()
    };
    let mut shop = Shop::new(&config);
    let mut people = People::new(&config);
    let mut acts = Vec::new();
    let mut truth = Truth::new(&config);
    for day in 0..config.days {
        if config.drift_day == Some(day) {
            let changed_subcategories = shop.drift(config.seed, config.drift_strength);
            let drifted_users = people.drift(config.seed, config.drift_strength, &truth.rising_categories);
            truth.record_drift(drifted_users, changed_subcategories);
        }
        let first_act = acts.len();
        for user in people.visitors(day) {
            Visit { shop: &shop, config: &config, day, user }.walk(&mut people, &mut acts);
        }
        truth.record_day(day, &shop, &people, &acts[first_act..]);
    }
    World { config, shop, acts, truth }
}

impl World {
    /// The configuration, with every value in its range.
    #[must_use]
    pub fn config(&self) -> &SynthConfig {
        &self.config
    }

    /// What really happened.
    #[must_use]
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Unix seconds of the midnight that starts `day`.
    #[must_use]
    pub fn day_start(&self, day: u32) -> i64 {
        self.config.start_timestamp + i64::from(day) * SECONDS_PER_DAY
    }

    /// The logs of the days `first_day..end_day`, with the catalogue as it is when `end_day` begins.
    ///
    /// # Errors
    /// As [`Dataset::new`].
    pub fn dataset(&self, first_day: u32, end_day: u32) -> Result<Dataset> {
        let mut acts: Vec<&Act> = self.between(first_day, end_day).iter().collect();
        // By first visit rather than by number, which is how rows of a log would be grouped.
        acts.sort_by_key(|act| act.timestamp);
        let interactions = acts.into_iter().map(|act| self.interaction(act));
        Dataset::new(interactions, self.items(end_day), TimeKind::UnixSeconds)
    }

    /// The devices that are used in the days `first_day..end_day`, by day and user.
    #[must_use]
    pub fn device_days(&self, first_day: u32, end_day: u32) -> Vec<DeviceDay> {
        let mut histories: Vec<Vec<SessionInteraction>> = vec![Vec::new(); self.config.num_users as usize];
        let mut days = Vec::new();
        let until_end = &self.acts[..self.acts.partition_point(|act| act.day < end_day)];
        for visit in until_end.chunk_by(|a, b| (a.day, a.user) == (b.day, b.user)) {
            let interactions: Vec<SessionInteraction> =
                visit.iter().map(|act| self.session_interaction(act)).collect();
            let history = &mut histories[visit[0].user as usize];
            let excess = (history.len() + interactions.len()).saturating_sub(MAX_HISTORY).min(history.len());
            if visit[0].day >= first_day {
                days.push(DeviceDay {
                    user_id: user_id(visit[0].user),
                    day: visit[0].day,
                    history: history.clone(),
                    interactions: interactions.clone(),
                });
            }
            history.drain(..excess);
            history.extend(interactions);
        }
        days
    }

    /// Writes the data folder of all days, with `truth.json` beside it. The folder appears complete or not at all.
    ///
    /// # Errors
    /// As [`Dataset::write`].
    pub fn write(&self, folder: &Path) -> Result<()> {
        self.write_days(folder, 0..self.config.days, None).map(|_| ())
    }

    /// As [`World::write`], for some days, and with what devices did in `device_days` as `devices.jsonl`, one line a
    /// device and day; `truth.json` tells of all days. Gives the counts.
    ///
    /// # Errors
    /// As [`Dataset::write`].
    pub fn write_days(
        &self,
        folder: &Path,
        days: Range<u32>,
        device_days: Option<Range<u32>>,
    ) -> Result<DataCounts> {
        let dataset = self.dataset(days.start, days.end)?;
        dataset.write_with(folder, "synth", &mut |_| {}, |folder| {
            write_file(&folder.join("truth.json"), |out| {
                serde_json::to_writer_pretty(&mut *out, &self.truth)?;
                out.write_all(b"\n")
            })?;
            let Some(days) = device_days else { return Ok(()) };
            write_file(&folder.join("devices.jsonl"), |out| {
                self.device_days(days.start, days.end).iter().try_for_each(|day| {
                    serde_json::to_writer(&mut *out, day)?;
                    out.write_all(b"\n")
                })
            })
        })?;
        Ok(dataset.counts())
    }

    /// The catalogue when `day` begins.
    #[must_use]
    pub fn items(&self, day: u32) -> Vec<Item> {
        let published = self.shop.items.iter().filter(|item| item.published_day < i64::from(day.max(1)));
        published.map(|item| item.catalogue_entry(self.config.start_timestamp)).collect()
    }

    fn between(&self, first_day: u32, end_day: u32) -> &[Act] {
        let end = self.acts.partition_point(|act| act.day < end_day);
        &self.acts[self.acts.partition_point(|act| act.day < first_day).min(end)..end]
    }

    fn interaction(&self, act: &Act) -> Interaction {
        Interaction {
            user_id: user_id(act.user),
            item_id: item_id(act.item),
            kind: KINDS[usize::from(act.kind)].to_owned(),
            timestamp: act.timestamp,
            value: None,
            split: None,
        }
    }

    fn session_interaction(&self, act: &Act) -> SessionInteraction {
        let Interaction { item_id, kind, timestamp, .. } = self.interaction(act);
        SessionInteraction { item_id, kind, timestamp }
    }
}

fn user_id(user: u32) -> UserId {
    UserId(format!("u{user:05}"))
}

fn item_id(item: u32) -> ItemId {
    ItemId(format!("p{item:05}"))
}
