//! Which training users chose which items, each pair once.

use super::distinct;
use crate::split::Split;

/// Newest interactions of a user that count, so that robots cost no quadratic time.
pub(crate) const MAX_HISTORY: usize = 500;

/// The binary user-item matrix of the training part, by rows and by columns.
#[derive(Debug)]
pub(crate) struct Baskets {
    /// Distinct items of each user, ascending.
    items_of: Vec<Vec<u32>>,
    /// Users of each item, ascending.
    users_of: Vec<Vec<u32>>,
}

/// Working memory of [`Baskets::nearest`].
#[derive(Debug)]
pub(crate) struct Together {
    /// Of every item, how many users chose it together with the item at hand; zero between calls.
    counts: Vec<u32>,
}

impl Baskets {
    /// Reads the training part.
    pub(crate) fn new(split: &Split) -> Self {
        let items_of: Vec<Vec<u32>> = split
            .training()
            .map(|events| distinct(events.iter().rev().take(MAX_HISTORY).map(|event| event.item)))
            .collect();
        let mut users_of: Vec<Vec<u32>> = vec![Vec::new(); split.vocabulary.len()];
        for (user, basket) in items_of.iter().enumerate() {
            basket.iter().for_each(|&item| users_of[item as usize].push(user as u32));
        }
        Self { items_of, users_of }
    }

    /// Items of the catalogue, chosen by anyone or not.
    pub(crate) fn num_items(&self) -> usize {
        self.users_of.len()
    }

    /// Users of an item, ascending.
    pub(crate) fn users(&self, item: u32) -> &[u32] {
        &self.users_of[item as usize]
    }

    /// Distinct items of every user, ascending.
    pub(crate) fn baskets(&self) -> &[Vec<u32>] {
        &self.items_of
    }

    /// Mean number of users of an item.
    pub(crate) fn mean_users(&self) -> f64 {
        let pairs: usize = self.users_of.iter().map(Vec::len).sum();
        pairs as f64 / self.num_items().max(1) as f64
    }

    /// Working memory that one thread may use again and again.
    pub(crate) fn scratch(&self) -> Together {
        Together { counts: vec![0; self.num_items()] }
    }

    /// Whether at least `min` users chose both items.
    pub(crate) fn together_at_least(&self, (a, b): (u32, u32), min: u32) -> bool {
        let (mut left, mut right) = (self.users(a), self.users(b));
        let mut together = 0;
        while let ([a, left_rest @ ..], [b, right_rest @ ..]) = (left, right)
            && together < min
        {
            together += u32::from(a == b);
            (left, right) = (if a <= b { left_rest } else { left }, if b <= a { right_rest } else { right });
        }
        together >= min
    }

    /// The `max` items nearest to `item` by cosine similarity over users, nearest first, each with
    /// the number of users who chose both, which is at least `min_users`.
    pub(crate) fn nearest(
        &self,
        item: u32,
        max: usize,
        min_users: u32,
        scratch: &mut Together,
    ) -> Vec<(u32, u32)> {
        let counts = &mut scratch.counts;
        let mut touched = Vec::new();
        for &user in self.users(item) {
            for &other in &self.items_of[user as usize] {
                if counts[other as usize] == 0 {
                    touched.push(other);
                }
                counts[other as usize] += 1;
            }
        }
        let mut found: Vec<(u32, u32)> = touched
            .iter()
            .filter(|&&other| other != item && counts[other as usize] >= min_users)
            .map(|&other| (other, counts[other as usize]))
            .collect();
        touched.iter().for_each(|&other| counts[other as usize] = 0);
        let order = |a: &(u32, u32), b: &(u32, u32)| {
            self.cosine(item, *b).total_cmp(&self.cosine(item, *a)).then(a.0.cmp(&b.0))
        };
        if found.len() > max {
            found.select_nth_unstable_by(max, order);
            found.truncate(max);
        }
        found.sort_unstable_by(order);
        found
    }

    /// Cosine similarity over users of `item` and an item that `together` users chose with it.
    pub(crate) fn cosine(&self, item: u32, (other, together): (u32, u32)) -> f32 {
        let norm = |i: u32| (self.users(i).len() as f32).sqrt();
        together as f32 / (norm(item) * norm(other))
    }
}

#[cfg(test)]
mod tests {
    use sanderling_types::TimeKind;

    use super::*;
    use crate::baselines::tests::split_of;

    #[test]
    fn the_nearest_come_first_and_pairs_count_once() {
        let split = split_of(&[&[0, 1, 2, 1], &[0, 1], &[2, 0], &[2], &[2]], 4, TimeKind::Order);
        let baskets = Baskets::new(&split);
        let mut scratch = baskets.scratch();
        // Item 1: 2 of 2 users with 0 (3 users), 1 with 2 (4 users).
        assert_eq!(baskets.nearest(1, 9, 1, &mut scratch), [(0, 2), (2, 1)]);
        assert_eq!(baskets.nearest(1, 1, 1, &mut scratch), [(0, 2)], "and the memory is clean again");
        assert_eq!(baskets.nearest(1, 9, 2, &mut scratch), [(0, 2)], "one user does not count");
        assert_eq!(baskets.nearest(3, 9, 1, &mut scratch), []);
        assert!(baskets.together_at_least((0, 2), 2) && !baskets.together_at_least((0, 2), 3));
        assert!(baskets.together_at_least((1, 3), 0) && !baskets.together_at_least((1, 3), 1));
        assert!((baskets.cosine(1, (0, 2)) - 2.0 / 6.0f32.sqrt()).abs() < 1e-6);
        assert_eq!(baskets.mean_users(), 9.0 / 4.0);
    }
}
