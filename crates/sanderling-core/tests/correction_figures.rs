//! What the per-user correction is worth, on simulated users of the bundle of `models/shop`: `docs/personalisation.md` has the figures
//! that this test prints.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sanderling_core::{Bundle, Engine, Mask, Ranking, SessionMemory, SessionView, SlimRuntime};
use sanderling_types::{Correction, ItemId, Request, SessionInteraction};
use support::bundle_of;

const NUM_USERS: u64 = 200;
/// The constants were chosen on the users before.
const FIRST_USER: u64 = 1000;
/// Lists that each user sees; the later half is measured.
const NUM_LISTS: usize = 40;
/// Items that a user would have chosen from all candidates, drawn for each measured list.
const NUM_TARGETS: usize = 20;
const LIMIT: usize = 10;
/// The chance that a user who looks at a place looks at the next one, too.
const LOOKS_ON: f64 = 0.85;

/// SplitMix64.
struct Draws(u64);

impl Draws {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One of `utilities` by the multinomial logit.
    fn choose(&mut self, utilities: &[f64]) -> usize {
        let most = utilities.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = utilities.iter().map(|utility| (utility - most).exp()).collect();
        let mut left = self.unit() * weights.iter().sum::<f64>();
        let found = weights.iter().position(|weight| {
            left -= weight;
            left <= 0.0
        });
        found.unwrap_or(weights.len() - 1)
    }
}

/// What a user likes beside what the ranker says: this much more of a feature, in standard deviations of scores for one of the feature.
#[derive(Clone, Copy)]
struct Taste {
    name: &'static str,
    strength: f64,
}

fn standardised(values: &[f64]) -> Vec<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    values.iter().map(|value| if deviation > 0.0 { (value - mean) / deviation } else { 0.0 }).collect()
}

/// What each candidate is worth to the user.
fn utilities(engine: &Engine, ranking: &Ranking, taste: Taste) -> Vec<f64> {
    let features = &engine.bundle().features().features;
    let column = features.iter().position(|feature| feature.name == taste.name);
    let rows = ranking.features.chunks_exact(features.len());
    let liked: Vec<f64> = rows.map(|row| column.map_or(0.0, |column| f64::from(row[column]))).collect();
    let weight = taste.strength * f64::from(ranking.score_deviation);
    ranking.scores.iter().zip(standardised(&liked)).map(|(score, z)| f64::from(*score) + weight * z).collect()
}

/// A session of an item of chance and what goes with it.
fn session(engine: &Engine, draws: &mut Draws, now: i64) -> Vec<SessionInteraction> {
    let num_items = engine.bundle().vocabulary().len();
    let first = (draws.unit() * num_items as f64) as u32;
    let first: ItemId = engine.bundle().item_id(sanderling_types::ItemIndex(first)).unwrap().into();
    let near = engine.similar(&first, 12).unwrap();
    let len = 1 + (draws.unit() * 4.0) as usize;
    let more = (0..len).map(|_| near[(draws.unit() * near.len() as f64) as usize].item_id.clone());
    let ids: Vec<ItemId> = std::iter::once(first.clone()).chain(more).collect();
    let interaction = |(at, item_id): (usize, ItemId)| SessionInteraction {
        item_id,
        kind: "view".to_owned(),
        timestamp: now - 60 * (10 - at as i64),
    };
    ids.into_iter().enumerate().map(interaction).collect()
}

/// NDCG@10 and hit rate of targets in a list.
fn judge(list: &[ItemId], target: &ItemId) -> (f64, f64) {
    let found = list.iter().position(|item| item == target);
    found.map_or((0.0, 0.0), |at| (1.0 / (at as f64 + 2.0).log2(), 1.0))
}

/// Means of one user: NDCG@10 and hit rate without the correction, and with it.
fn simulate(engine: &Engine, taste: Taste, user: u64) -> [f64; 4] {
    let (mut draws, mut memory) = (Draws(user * 1_000_003), SessionMemory::default());
    let (mut sums, mut correction): ([f64; 4], Option<Correction>) = ([0.0; 4], None);
    for step in 0..NUM_LISTS {
        let now = 1_770_000_000 + 86_400 * step as i64;
        let session = session(engine, &mut draws, now);
        let plain = Request { session, now, limit: LIMIT as u32, ..Request::default() };
        let (view, _) = SessionView::resolve(&plain.session, engine.bundle());
        let mut mask = Mask::all(engine.bundle().vocabulary().len());
        view.seen().iter().for_each(|seen| mask.drop_item(seen.item));
        let ranking = engine.order(&view, &mask, now, &mut memory).unwrap();
        let worth = utilities(engine, &ranking, taste);
        let ids: Vec<ItemId> =
            ranking.candidates.iter().map(|one| engine.bundle().item_id(one.item).unwrap().into()).collect();
        let outcome =
            engine.recommend_remembering(&Request { correction: correction.clone(), ..plain }, &mut memory);
        let listed: Vec<ItemId> =
            outcome.response.recommendations.iter().map(|one| one.item_id.clone()).collect();
        if step >= NUM_LISTS / 2 {
            for _ in 0..NUM_TARGETS {
                let target = &ids[draws.choose(&worth)];
                let (before, after) = (judge(&ids[..LIMIT], target), judge(&listed, target));
                for (sum, value) in sums.iter_mut().zip([before.0, before.1, after.0, after.1]) {
                    *sum += value;
                }
            }
        }
        let mut num_seen = 1;
        while num_seen < LIMIT && draws.unit() < LOOKS_ON {
            num_seen += 1;
        }
        let worth_of = |item: &ItemId| worth[ids.iter().position(|id| id == item).unwrap()];
        let mut seen: Vec<f64> = listed[..num_seen].iter().map(worth_of).collect();
        // Or nothing, which is worth a little less than the best of them.
        seen.push(seen.iter().copied().fold(f64::NEG_INFINITY, f64::max) - 1.0);
        let chosen = draws.choose(&seen);
        if chosen < num_seen {
            correction = Some(engine.learn(correction, &outcome, chosen as u32 + 1));
        }
    }
    sums.map(|sum| sum / (NUM_LISTS.div_ceil(2) * NUM_TARGETS) as f64)
}

/// Mean and half the 95 % interval, over users.
fn interval(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, 1.96 * (variance / count).sqrt())
}

/// Prints what a taste gains, and gives mean and half the interval of the difference of NDCG@10.
#[expect(clippy::print_stdout, reason = "the figures are for people")]
fn gain(engine: &Engine, taste: Taste) -> ((f64, f64), f64) {
    let users: Vec<[f64; 4]> =
        (FIRST_USER..FIRST_USER + NUM_USERS).map(|user| simulate(engine, taste, user)).collect();
    let of = |value: &dyn Fn(&[f64; 4]) -> f64| interval(&users.iter().map(value).collect::<Vec<_>>());
    let (ndcg, hits) = (of(&|user| user[2] - user[0]), of(&|user| user[3] - user[1]));
    let (before, hits_before) = (of(&|user| user[0]).0, of(&|user| user[1]).0);
    println!(
        "{} {:+.1}: NDCG@10 {before:.3} {:+.4} ± {:.4}; hit rate@10 {hits_before:.3} {:+.4} ± {:.4}",
        taste.name, taste.strength, ndcg.0, ndcg.1, hits.0, hits.1
    );
    (ndcg, before)
}

#[test]
fn users_of_a_taste_of_their_own_gain_and_others_lose_next_to_nothing() {
    let engine = Engine::new(Bundle::open(bundle_of("models/shop/1"), None).unwrap(), &SlimRuntime).unwrap();
    for (name, strength) in
        [("price_match", 1.0), ("popularity", -1.0), ("age_days", -1.0), ("price_match", 0.5)]
    {
        let ((mean, half), before) = gain(&engine, Taste { name, strength });
        assert!(mean - half > 0.0, "{name} {strength}: {mean} ± {half} of {before}");
    }
    let ((mean, half), before) = gain(&engine, Taste { name: "none", strength: 0.0 });
    assert!(mean - half > -0.005 * before, "{mean} ± {half} of {before}");
}
