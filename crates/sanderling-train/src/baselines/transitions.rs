//! What sessions say about pairs of items, added up: the form in which `vmis-knn` can be published. The
//! sessions themselves are people's histories and stay where the training data is.

use rayon::prelude::*;

use super::VmisKnn;

/// How a session votes for what it holds beside the item at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vote {
    /// One vote, wherever it is.
    Anywhere,
    /// A vote that falls with the distance, `1 / d`, to either side.
    Near,
    /// The same for items that came later only: sequential rules (Ludewig and Jannach 2018, section 3.1).
    After,
}

impl Vote {
    /// Every way, with its name.
    pub(crate) const ALL: [(Self, &'static str); 3] =
        [(Self::Anywhere, "anywhere"), (Self::Near, "near"), (Self::After, "after")];

    fn weight(self, from: usize, to: usize) -> f32 {
        match self {
            _ if from == to => 1.0,
            Self::Anywhere => 1.0,
            Self::After if to < from => 0.0,
            Self::Near | Self::After => 1.0 / from.abs_diff(to) as f32,
        }
    }
}

/// Which weights are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TransitionOptions {
    /// How a session votes.
    pub(crate) vote: Vote,
    /// Whether a session votes for the item at hand too, where people come back to what they saw.
    pub(crate) itself: bool,
    /// Most weights of an item.
    pub(crate) max: usize,
    /// Fewest sessions behind a weight.
    pub(crate) min_sessions: u32,
}

/// Of every item the items with the largest transition weights, largest first. The weight from `a` to `b`
/// adds up the votes of the newest 500 sessions of `a`, over the root of their number, times the
/// `ln(1 + sessions / sessions with b)` of `vmis-knn`.
///
/// Sessions that [`VmisKnn::append`] has added since count as well, so a table is brought up to date
/// without reading older sessions again.
pub(crate) fn transitions(knn: &VmisKnn, options: TransitionOptions) -> Vec<Vec<(u32, f32)>> {
    let scratch = || vec![(0.0f32, 0u32); knn.num_items()];
    let row = |sums: &mut Vec<(f32, u32)>, item| one_row(knn, options, item, sums);
    (0..knn.num_items() as u32).into_par_iter().map_init(scratch, row).collect()
}

/// `sums` holds the votes for every item and how many sessions they came from; zeros between calls.
fn one_row(knn: &VmisKnn, options: TransitionOptions, item: u32, sums: &mut [(f32, u32)]) -> Vec<(u32, f32)> {
    let TransitionOptions { vote, itself, max, min_sessions } = options;
    let mut touched = Vec::new();
    let mut num_sessions = 0u32;
    for session in knn.sessions_with(item) {
        num_sessions += 1;
        let Some(from) = session.iter().position(|&other| other == item) else { continue };
        for (to, &other) in session.iter().enumerate() {
            let weight = vote.weight(from, to);
            if weight > 0.0 && (itself || to != from) {
                let (sum, count) = &mut sums[other as usize];
                if *count == 0 {
                    touched.push(other);
                }
                (*sum, *count) = (*sum + weight, *count + 1);
            }
        }
    }
    let rarity = |other: u32| (knn.num_sessions() as f32 / knn.count(other) as f32).ln_1p();
    let scale = (num_sessions.max(1) as f32).sqrt();
    let mut row: Vec<(u32, f32)> = touched
        .iter()
        .filter(|&&other| sums[other as usize].1 >= min_sessions)
        .map(|&other| (other, sums[other as usize].0 * rarity(other) / scale))
        .collect();
    touched.iter().for_each(|&other| sums[other as usize] = (0.0, 0));
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if row.len() > max {
        row.select_nth_unstable_by(max, order);
        row.truncate(max);
    }
    row.sort_unstable_by(order);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: TransitionOptions =
        TransitionOptions { vote: Vote::Near, itself: false, max: 9, min_sessions: 1 };

    fn knn(sessions: &[&[u32]]) -> VmisKnn {
        let mut knn = VmisKnn::new(5);
        sessions.iter().for_each(|session| knn.append(session));
        knn
    }

    #[track_caller]
    fn check(row: &[(u32, f32)], expected: &[(u32, f32)]) {
        let close = |(a, b): (&(u32, f32), &(u32, f32))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-5;
        assert!(
            row.len() == expected.len() && row.iter().zip(expected).all(close),
            "{row:?}, not {expected:?}"
        );
    }

    #[test]
    fn votes_by_hand() {
        let knn = knn(&[&[0, 1, 2], &[2, 0, 1], &[3, 0, 3]]);
        let rarity = |count: f32| (3.0 / count).ln_1p();
        let row = |options| transitions(&knn, options).swap_remove(0);
        let rows = |vote, min_sessions| row(TransitionOptions { vote, min_sessions, ..ANY });
        let root = 3.0f32.sqrt();
        check(
            &rows(Vote::Anywhere, 1),
            &[(1, 2.0 * rarity(2.0) / root), (2, 2.0 * rarity(2.0) / root), (3, rarity(1.0) / root)],
        );
        // Item 2 is two after item 0 in one session and just before it in the other.
        check(
            &rows(Vote::Near, 1),
            &[(1, 2.0 * rarity(2.0) / root), (3, rarity(1.0) / root), (2, 1.5 * rarity(2.0) / root)],
        );
        check(
            &rows(Vote::After, 1),
            &[(1, 2.0 * rarity(2.0) / root), (3, rarity(1.0) / root), (2, 0.5 * rarity(2.0) / root)],
        );
        check(&rows(Vote::Anywhere, 2), &[(1, 2.0 * rarity(2.0) / root), (2, 2.0 * rarity(2.0) / root)]);
        check(&row(TransitionOptions { max: 1, ..ANY }), &[(1, 2.0 * rarity(2.0) / root)]);
        let with_itself = row(TransitionOptions { itself: true, max: 1, ..ANY });
        check(&with_itself, &[(0, 3.0 * rarity(3.0) / root)]);
        assert!(transitions(&knn, TransitionOptions { itself: true, ..ANY })[4].is_empty());
    }

    #[test]
    fn appended_sessions_count_as_if_they_had_been_there() {
        let sessions: Vec<Vec<u32>> =
            (0..40u32).map(|user| (0..2 + user % 4).map(|at| (user + at * at) % 5).collect()).collect();
        let sessions: Vec<&[u32]> = sessions.iter().map(Vec::as_slice).collect();
        let mut stepwise = knn(&sessions[..10]);
        sessions[10..].iter().for_each(|session| stepwise.append(session));
        for (vote, name) in Vote::ALL {
            let options = TransitionOptions { vote, itself: true, max: 3, min_sessions: 2 };
            assert_eq!(transitions(&stepwise, options), transitions(&knn(&sessions), options), "{name}");
        }
    }
}
