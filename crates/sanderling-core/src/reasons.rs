//! Why an item is in the list, in a form that a page can show.

use sanderling_types::{ItemIndex, Reason, Source};

use crate::candidates::sources;
use crate::items::Direction;
use crate::{Bundle, Candidate, SessionSource, SessionView};

/// Least cosine at which an item of the session is named as the reason.
const MIN_SIMILARITY: f32 = 0.5;
/// Most recent session items that are compared.
const MAX_COMPARED: usize = 20;
/// An item is called popular in the first row and up to this share of the rows: one in twenty.
const POPULAR_DIVISOR: usize = 20;

/// What is the same for every item of a response.
#[derive(Debug)]
pub(crate) struct Explainer<'a> {
    bundle: &'a Bundle,
    /// The most recent items of the session, newest first.
    recent: Vec<(ItemIndex, Direction<'a>)>,
    sources: Vec<SessionSource>,
    category_weights: Vec<f32>,
}

impl<'a> Explainer<'a> {
    pub(crate) fn new(bundle: &'a Bundle, session: &SessionView, category_weights: Vec<f32>) -> Self {
        let recent = session.items().iter().rev().take(MAX_COMPARED);
        let recent = recent.map(|known| (known.item, bundle.items().direction(known.item))).collect();
        Self { bundle, recent, sources: sources(bundle, session), category_weights }
    }

    /// The reasons of an item, strongest first: the most similar item of the session (the later
    /// one of two equal ones) when it is similar enough, the item of the session that it is chosen with
    /// most, the category that it shares with most of the session, its popularity. What was proposed as
    /// a neighbour has that for its first reason. May be empty.
    pub(crate) fn reasons(&self, candidate: &Candidate) -> Vec<Reason> {
        let item = candidate.item;
        let mut because_of = [self.similar_to(item), self.chosen_with(item)];
        if candidate.source == Source::Neighbours {
            because_of.reverse();
        }
        because_of.into_iter().chain([self.category(item), popular(self.bundle, item)]).flatten().collect()
    }

    fn chosen_with(&self, item: ItemIndex) -> Option<Reason> {
        let (source, weight) = self.bundle.neighbours()?.strongest(&self.sources, item)?;
        Some(Reason::ChosenWith { item_id: self.bundle.item_id(source)?.into(), weight })
    }

    fn similar_to(&self, item: ItemIndex) -> Option<Reason> {
        let mut best: Option<(f32, ItemIndex)> = None;
        let direction = self.bundle.items().direction(item);
        for (known, known_direction) in &self.recent {
            let similarity = direction.cosine(*known_direction);
            if *known != item && best.is_none_or(|(best, _)| similarity > best) {
                best = Some((similarity, *known));
            }
        }
        let (similarity, item) = best.filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)?;
        Some(Reason::SimilarTo { item_id: self.bundle.item_id(item)?.into(), similarity })
    }

    fn category(&self, item: ItemIndex) -> Option<Reason> {
        let mut best: Option<(f32, u16)> = None;
        for category in self.bundle.vocabulary().categories_of(item) {
            let weight = self.category_weights.get(usize::from(category)).copied().unwrap_or(0.0);
            if weight > best.map_or(0.0, |(best, _)| best) {
                best = Some((weight, category));
            }
        }
        let (_, category) = best?;
        Some(Reason::Category { category: self.bundle.vocabulary().category(category)?.to_owned() })
    }
}

/// [`Reason::Popular`] for an item among the most popular ones that anybody chose at all.
fn popular(bundle: &Bundle, item: ItemIndex) -> Option<Reason> {
    let num_popular = bundle.vocabulary().len().div_ceil(POPULAR_DIVISOR);
    let is_chosen = bundle.vocabulary().popularity(item) > 0;
    (item.row() < num_popular && is_chosen).then_some(Reason::Popular)
}
