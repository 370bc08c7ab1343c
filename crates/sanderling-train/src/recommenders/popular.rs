//! `popular` and `recent`: one order for everybody, which is the bundle's fallback list.

use sanderling_types::TimeKind;

use super::{Model, Recommender, history_len};
use crate::baselines::{Baseline, Popular, Recent, answer};
use crate::metrics::mean_ndcg10;
use crate::recipe::Recipe;
use crate::split::Split;

/// Half-lives that `popular` chooses from, as shares of the training span.
const HALF_LIFE_SHARES: [f64; 6] = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01];
const SECONDS_PER_DAY: f64 = 86_400.0;

/// Fits the order. `popular` counts everything alike, or lets it fade with the half-life that has the best
/// validation NDCG@10, where timestamps mean time; `recent` always fades, as its baseline does.
pub(super) fn fit(recommender: Recommender, split: &Split, recipe: &Recipe) -> Model {
    let faded = |share| -> Box<dyn Baseline> { Box::new(Recent::with_half_life(split, share)) };
    let candidates: Vec<(String, Box<dyn Baseline>)> = if recommender == Recommender::Recent {
        vec![("half-life a tenth of the training span".to_owned(), Box::new(Recent::fit(split)))]
    } else {
        let plain: Box<dyn Baseline> = Box::new(Popular::fit(split));
        let shares = if split.time == TimeKind::UnixSeconds { &HALF_LIFE_SHARES[..] } else { &[] };
        let faded = shares.iter().map(|&share| (half_life(split, share), faded(share)));
        std::iter::once(("everything counts alike".to_owned(), plain)).chain(faded).collect()
    };
    let cases = split.choosing_cases();
    let mut best: Option<(f64, String, Box<dyn Baseline>)> = None;
    for (settings, order) in candidates {
        let gain = mean_ndcg10(&answer(&*order, split, &cases));
        if best.as_ref().is_none_or(|(most, ..)| gain > *most) {
            best = Some((gain, settings, order));
        }
    }
    // Unwrap safety: there is an order to begin with.
    let (_, settings, order) = best.expect("an order");
    Model {
        name: recommender.as_str().to_owned(),
        order: Some(rows_by_score(&*order, split)),
        max_session_len: history_len(recipe, split),
        ndcg10_f32: mean_ndcg10(&answer(&*order, split, &split.measuring_cases())),
        settings,
        ..Model::default()
    }
}

fn half_life(split: &Split, share: f64) -> String {
    let (first, last, ..) = split.training_counts();
    format!("half-life {:.1} days", (last - first) as f64 * share / SECONDS_PER_DAY)
}

/// Rows by descending score, ties by ascending row.
fn rows_by_score(order: &dyn Baseline, split: &Split) -> Vec<u32> {
    let mut scores = vec![0.0; split.vocabulary.len()];
    order.score(&[], &mut scores);
    let mut rows: Vec<u32> = (0..scores.len() as u32).collect();
    rows.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baselines::tests::split_at;
    use crate::split::Case;

    /// Item 0 was everything once, then item 1 was, and item 2 never was; validation asks for `next`.
    fn fashion(time: TimeKind, next: u32) -> Split {
        let mut sequences: Vec<Vec<(u32, i64)>> = (0..20).map(|at| vec![(0, at * 10_000)]).collect();
        sequences.extend((20..30).map(|at| vec![(1, at * 10_000)]));
        sequences.push(vec![(2, 150_000), (next, 400_000)]);
        let mut split = split_at(&sequences.iter().map(Vec::as_slice).collect::<Vec<_>>(), 3, time);
        split.train_len[30] = 1;
        split.validation = vec![Case { user: 30, prefix: 1 }];
        split
    }

    #[test]
    fn the_half_life_is_chosen_by_validation_where_timestamps_mean_time() {
        let order = |time, next| {
            let model = fit(Recommender::Popular, &fashion(time, next), &Recipe::default());
            (model.order.expect("an order"), model.settings)
        };
        let (rows, settings) = order(TimeKind::UnixSeconds, 1);
        assert_eq!((rows[0], settings.starts_with("half-life")), (1, true), "{settings}");
        for (time, next) in [(TimeKind::UnixSeconds, 0), (TimeKind::Order, 1)] {
            let (rows, settings) = order(time, next);
            assert_eq!((rows[0], settings.as_str()), (0, "everything counts alike"));
        }
    }
}
