//! Why an item is in the list, in a form that a page can show.

use sanderling_types::{ItemIndex, Reason, Source};

use crate::candidates::sources;
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
    session: &'a SessionView,
    sources: Vec<SessionSource>,
    category_weights: Vec<f32>,
}

impl<'a> Explainer<'a> {
    pub(crate) fn new(bundle: &'a Bundle, session: &'a SessionView, category_weights: Vec<f32>) -> Self {
        Self { bundle, session, sources: sources(bundle, session), category_weights }
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
        Some(Reason::ChosenWith { item_id: self.bundle.item_id(source)?.clone(), weight })
    }

    fn similar_to(&self, item: ItemIndex) -> Option<Reason> {
        let mut best: Option<(f32, ItemIndex)> = None;
        for known in self.session.items().iter().rev().take(MAX_COMPARED) {
            let similarity = self.bundle.items().cosine(item, known.item);
            if known.item != item && best.is_none_or(|(best, _)| similarity > best) {
                best = Some((similarity, known.item));
            }
        }
        let (similarity, item) = best.filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)?;
        Some(Reason::SimilarTo { item_id: self.bundle.item_id(item)?.clone(), similarity })
    }

    fn category(&self, item: ItemIndex) -> Option<Reason> {
        let mut best: Option<(f32, u16)> = None;
        for category in self.bundle.vocabulary().item_categories.get(item.row())? {
            let weight = self.category_weights.get(usize::from(*category)).copied().unwrap_or(0.0);
            if weight > best.map_or(0.0, |(best, _)| best) {
                best = Some((weight, *category));
            }
        }
        let (_, category) = best?;
        Some(Reason::Category {
            category: self.bundle.vocabulary().categories[usize::from(category)].clone(),
        })
    }
}

/// [`Reason::Popular`] for an item among the most popular ones that anybody chose at all.
fn popular(bundle: &Bundle, item: ItemIndex) -> Option<Reason> {
    let num_popular = bundle.vocabulary().len().div_ceil(POPULAR_DIVISOR);
    let is_chosen = bundle.vocabulary().popularity.get(item.row()).is_some_and(|count| *count > 0);
    (item.row() < num_popular && is_chosen).then_some(Reason::Popular)
}
