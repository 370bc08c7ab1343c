//! Which items may be recommended in a session: those that the encoder's query is near to, the
//! neighbours of the session's items, or both.

use sanderling_types::{Code, Error, ItemIndex, Result, Source, sorted_positions};

use crate::order::by_score;
use crate::retrieve::top_scored;
use crate::{Bundle, Candidate, Engine, ItemTable, Mask, SessionMemory, SessionSource, SessionView};

/// The items of a session that speak for their neighbours; none in a bundle without neighbours.
pub(crate) fn sources(bundle: &Bundle, session: &SessionView) -> Vec<SessionSource> {
    let newest_first = || session.seen().iter().rev().map(|known| known.item);
    bundle.neighbours().map_or_else(Vec::new, |table| table.combination().sources(newest_first()))
}

impl Engine {
    /// The items that may be recommended: at most `max_candidates` kept ones in the order of
    /// [`by_score`](crate::by_score). In a bundle with an encoder and neighbours the best of both take
    /// turns until there are enough; a bundle of neighbours alone fills up with popular items.
    ///
    /// # Errors
    /// As [`Engine::encode`]; [`Code::InvalidArgument`] in a bundle that has neither.
    pub fn candidates(
        &self,
        session: &SessionView,
        mask: &Mask,
        memory: &mut SessionMemory,
    ) -> Result<Vec<Candidate>> {
        let bundle = self.bundle();
        let max_candidates = bundle.manifest().limits.max_candidates as usize;
        match (bundle.encoder(), neighbour_scores(bundle, session)) {
            (Some(_), None) => Ok(self.retrieve(
                &self.encode_remembering(&session.item_indices(), memory)?,
                max_candidates,
                mask,
            )),
            (Some(_), Some(scores)) => {
                let query = self.encode_remembering(&session.item_indices(), memory)?;
                let scanned = self.retrieve(&query, max_candidates, mask);
                Ok(union(scanned, &scores, &query, bundle.items(), max_candidates, mask))
            }
            (None, Some(scores)) => Ok(of_neighbours(&scores, max_candidates, mask)),
            (None, None) => Err(Error::new(Code::InvalidArgument, "the bundle retrieves nothing")
                .expected("an encoder or neighbours")
                .hint("its list is the fallback list")),
        }
    }

    /// The `k` items most similar to one, see [`Engine::similar`].
    pub(crate) fn similar_candidates(&self, item: ItemIndex, k: usize) -> Vec<Candidate> {
        let mut mask = Mask::all(self.bundle().vocabulary().len());
        mask.drop_item(item);
        let neighbours = self.bundle().neighbours().filter(|_| self.bundle().encoder().is_none());
        let Some(table) = neighbours else { return self.bundle().items().most_similar(item, k, &mask) };
        let best = top_scored(table.row(item).filter(|(_, weight)| *weight > 0.0), k, &mask).into_iter();
        let to_candidate =
            |(item, score)| Candidate { item, score, neighbour_score: score, source: Source::Neighbours };
        best.map(to_candidate).collect()
    }
}

/// The neighbour score of every item `[num_items]`; `None` in a bundle without neighbours.
pub(crate) fn neighbour_scores(bundle: &Bundle, session: &SessionView) -> Option<Vec<f32>> {
    let table = bundle.neighbours()?;
    let mut scores = vec![0.0; table.len()];
    table.add_scores(&sources(bundle, session), &mut scores);
    Some(scores)
}

fn numbered(scores: &[f32]) -> impl Iterator<Item = (ItemIndex, f32)> {
    scores.iter().enumerate().map(|(row, score)| (ItemIndex(row as u32), *score))
}

/// The best by neighbour score; items that nobody speaks for follow in the order of popularity.
fn of_neighbours(scores: &[f32], max_candidates: usize, mask: &Mask) -> Vec<Candidate> {
    let source = |score: f32| if score == 0.0 { Source::Fallback } else { Source::Neighbours };
    let best = top_scored(numbered(scores), max_candidates, mask).into_iter();
    best.map(|(item, score)| Candidate { item, score, neighbour_score: score, source: source(score) })
        .collect()
}

/// The scanned items and the items that somebody speaks for, best of both in turns. Every candidate has
/// both scores, whoever proposed it.
fn union(
    scanned: Vec<Candidate>,
    scores: &[f32],
    query: &[f32],
    items: &ItemTable,
    max_candidates: usize,
    mask: &Mask,
) -> Vec<Candidate> {
    let query = items.prepare(query);
    let spoken_for = numbered(scores).filter(|(_, score)| *score > 0.0);
    let mut near = top_scored(spoken_for, max_candidates, mask).into_iter();
    let mut scanned = scanned.into_iter();
    let mut free = mask.clone();
    let mut out: Vec<Candidate> = Vec::with_capacity(max_candidates);
    while out.len() < max_candidates {
        let from_scan = scanned.next();
        let from_neighbours = near.next().map(|(item, neighbour_score)| Candidate {
            item,
            score: items.score(&query, item),
            neighbour_score,
            source: Source::Neighbours,
        });
        if from_scan.is_none() && from_neighbours.is_none() {
            break;
        }
        for mut candidate in from_scan.into_iter().chain(from_neighbours) {
            if free.keeps(candidate.item) && out.len() < max_candidates {
                free.drop_item(candidate.item);
                candidate.neighbour_score = scores[candidate.item.row()];
                out.push(candidate);
            }
        }
    }
    let scored = |at: usize| (out[at].score, out[at].item);
    let order = sorted_positions(out.len(), &|a, b| by_score(scored(a), scored(b)));
    order.into_iter().map(|at| out[at]).collect()
}
