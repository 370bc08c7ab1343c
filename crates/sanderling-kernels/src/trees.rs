//! Regression trees.

/// One node of a tree whose nodes are in pre-order: the left child follows its parent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TreeNode {
    /// A value of at most `threshold` goes left, a larger one right.
    Split {
        /// Column of the ranker input.
        feature: u16,
        /// Finite.
        threshold: f32,
        /// Whether a value that is not a number goes left.
        missing_left: bool,
        /// How many nodes after this one the right child is, at least 2.
        right: u16,
    },
    /// The end of a path: what the tree adds to the score.
    Leaf {
        /// Finite, under 1e30 in magnitude.
        score: f32,
    },
}

/// Rows that are walked together: a walk waits for memory at every step.
const TOGETHER: usize = 4;

/// Adds to `scores` `[num_rows]` what a tree says of each row of `features` `[num_rows, num_features]`.
///
/// # Panics
/// For a tree that is not whole, or splits by a column that is not there; one of [`TreeNode::Split`]s alone may not end.
pub fn add_leaves(tree: &[TreeNode], features: &[f32], num_features: usize, scores: &mut [f32]) {
    let (groups, rest) = scores.as_chunks_mut::<TOGETHER>();
    let mut rows = features.chunks_exact(num_features);
    for scores in groups {
        let rows: [&[f32]; TOGETHER] = std::array::from_fn(|_| rows.next().unwrap_or(&[]));
        for (score, leaf) in scores.iter_mut().zip(leaves(tree, rows)) {
            *score += leaf;
        }
    }
    for (score, row) in rest.iter_mut().zip(rows) {
        let [leaf] = leaves(tree, [row]);
        *score += leaf;
    }
}

/// Walks from the root to a leaf for every row.
#[inline(always)]
fn leaves<const ROWS: usize>(tree: &[TreeNode], rows: [&[f32]; ROWS]) -> [f32; ROWS] {
    let mut at = [0usize; ROWS];
    let mut leaves = [0.0f32; ROWS];
    loop {
        let mut ended = 0;
        for row in 0..ROWS {
            match tree[at[row]] {
                TreeNode::Split { feature, threshold, missing_left, right } => {
                    let value = rows[row][usize::from(feature)];
                    let left = (value <= threshold) | (missing_left & value.is_nan());
                    at[row] += if left { 1 } else { usize::from(right) };
                }
                TreeNode::Leaf { score } => {
                    leaves[row] = score;
                    ended += 1;
                }
            }
        }
        if ended == ROWS {
            return leaves;
        }
    }
}
