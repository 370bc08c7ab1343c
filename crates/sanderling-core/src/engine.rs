//! The engine: retrieve, rank, apply the policy, and say why; the worst case is the fallback list.

use sanderling_types::{
    Code, Error, Fault, FaultCode, FileRole, ItemId, ItemIndex, Manifest, Reason, Recommendation, Request,
    Response, Result, Source, quoted, sorted_positions,
};

use crate::deadline::Deadline;
use crate::features::FeatureEncoder;
use crate::memory::check_output;
use crate::observe::{Observed, Observer};
use crate::order::score_descending;
use crate::policy::Explored;
use crate::reasons::Explainer;
use crate::{
    Bundle, Candidate, Mask, RankerModel, Ranking, Runtime, Scorer, SessionMemory, SessionView, policy,
};

/// Decay with which session categories are weighed for [`Reason::Category`].
const REASON_DECAY: f32 = 0.8;

/// A loaded bundle, ready to recommend.
pub struct Engine {
    bundle: Bundle,
    encoder: Option<Box<dyn Scorer>>,
    ranker: Box<dyn Scorer>,
    features: FeatureEncoder,
    observer: Observer,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("bundle_hash", &self.bundle.hash()).finish_non_exhaustive()
    }
}

/// What one call of [`Engine::recommend`] gave: the response, and what telemetry may count of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// The answer.
    pub response: Response,
    /// Values in the bins of the bundle's baseline. Fallback lists count only their faults: training has no counterpart of them.
    pub observations: Vec<Observed>,
    /// Feature rows `[num_ranked, num_features]` of what is listed but pinned items; empty for a fallback list.
    pub features: Vec<f32>,
    /// Standard deviation of the ranker's scores of all candidates; 0 where no ranker ordered the list.
    pub score_deviation: f32,
    /// Scores of [`Candidate::score`] `[num_ranked]`, of the same; empty for a fallback list.
    pub retrieval_scores: Vec<f32>,
    /// Interactions of the session that the bundle knows, however long ago.
    pub num_known: usize,
    /// `now` of the request, Unix seconds.
    pub now: i64,
}

impl Engine {
    /// Loads the models of a bundle. One whose longest sessions could never be encoded is refused here.
    ///
    /// # Errors
    /// [`Code::ModelInvalid`], [`Code::LimitExceeded`] or [`Code::IncompatibleFeatures`].
    pub fn new(bundle: Bundle, runtime: &dyn Runtime) -> Result<Self> {
        let Manifest { shapes, runtime: stated, .. } = bundle.manifest();
        let load = |onnx| runtime.scorer(onnx, FileRole::Encoder, shapes, *stated);
        let encoder = bundle.encoder().map(load).transpose()?;
        if let Some(encoder) = &encoder {
            check_longest_session(encoder.as_ref(), bundle.manifest())?;
        }
        Ok(Self {
            encoder,
            ranker: match bundle.ranker() {
                RankerModel::Onnx(onnx) => runtime.scorer(onnx, FileRole::Ranker, shapes, *stated)?,
                RankerModel::Trees(trees) => Box::new(trees.clone()),
            },
            features: FeatureEncoder::new(bundle.features(), bundle.shared_vocabulary())?,
            observer: Observer::new(&bundle),
            bundle,
        })
    }

    /// The bundle.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The feature encoder of the bundle.
    #[must_use]
    pub fn feature_encoder(&self) -> &FeatureEncoder {
        &self.features
    }

    /// Recommends. Never fails: what goes wrong on the way becomes a fault, and the worst case is
    /// the popularity list after the policy.
    #[must_use]
    pub fn recommend(&self, request: &Request) -> Outcome {
        self.recommend_remembering(request, &mut SessionMemory::default())
    }

    /// The same, to the bit, by a caller that keeps `memory` from one request to the next: what the encoder made
    /// of a session is used again when the next session begins with the same items. Without a clock no deadline over 0 is kept.
    #[must_use]
    pub fn recommend_remembering(&self, request: &Request, memory: &mut SessionMemory) -> Outcome {
        self.recommend_timed(request, memory, &|| 0.0)
    }

    /// The same by a caller with a clock: `elapsed_ms` gives the milliseconds since the caller was asked. What would end
    /// after the request's deadline is left out: the ranker, which leaves retrieval order, or retrieval, which leaves the
    /// fallback list. How long a step takes is what it took last, which `memory` knows.
    #[must_use]
    pub fn recommend_timed(
        &self,
        request: &Request,
        memory: &mut SessionMemory,
        elapsed_ms: &dyn Fn() -> f64,
    ) -> Outcome {
        let mut faults = Vec::new();
        let deadline = Deadline::new(request.deadline_ms, elapsed_ms);
        let limit = self.clamp_limit(request.limit, &mut faults);
        let session = self.resolve_session(request, &mut faults);
        let pins = policy::pins(&self.bundle, &request.rules);
        let mut mask = policy::mask(&self.bundle, &session, &request.rules);
        for (_, item) in &pins {
            mask.drop_item(*item);
        }
        let ranking = self.ranking_or_fault(&session, &mask, request, memory, &deadline, &mut faults);
        let list = match ranking {
            Some(ranking) => self.list_ranking(&ranking, &session, request, limit),
            None => self.list_fallback(mask, request, limit),
        };
        let mut outcome = self.pin(list, &pins, limit);
        if outcome.response.recommendations.len() < limit {
            let found = outcome.response.recommendations.len();
            faults.push(fault(
                FaultCode::TooFewItems,
                format!("{found} of {limit} items remained after the policy"),
            ));
        }
        outcome.response.faults = faults;
        outcome.num_known = session.seen().len();
        outcome.now = request.now;
        outcome.observations = self.observer.observe(&outcome, &self.bundle, &session);
        outcome
    }

    fn clamp_limit(&self, limit: u32, faults: &mut Vec<Fault>) -> usize {
        let max_limit = self.bundle.manifest().limits.max_limit;
        if limit > max_limit {
            faults.push(fault(FaultCode::LimitLowered, format!("limit {limit} was lowered to {max_limit}")));
        }
        limit.min(max_limit) as usize
    }

    fn resolve_session(&self, request: &Request, faults: &mut Vec<Fault>) -> SessionView {
        let (session, num_unknown) = SessionView::resolve(&request.session, &self.bundle);
        if num_unknown > 0 {
            let detail =
                format!("{num_unknown} of {} session items are not in this bundle", request.session.len());
            faults.push(fault(FaultCode::UnknownItems, detail));
        }
        if session.is_empty() {
            let detail =
                if num_unknown > 0 { "no session item is in this bundle" } else { "the session is empty" };
            faults.push(fault(FaultCode::EmptySession, detail.to_owned()));
        }
        session
    }

    fn ranking_or_fault(
        &self,
        session: &SessionView,
        mask: &Mask,
        request: &Request,
        memory: &mut SessionMemory,
        deadline: &Deadline,
        faults: &mut Vec<Fault>,
    ) -> Option<Ranking> {
        if session.is_empty() || !self.bundle.retrieves() {
            return None;
        }
        if let Err(late) = deadline.allow("retrieval", &mut memory.costs.retrieval_ms) {
            faults.push(late);
            return None;
        }
        match self.order_until(session, mask, request, memory, deadline) {
            Ok(mut ranking) => {
                faults.extend(ranking.fault.take());
                Some(ranking)
            }
            Err(error) => {
                faults.push(fault(FaultCode::EncoderFailed, error.to_string()));
                None
            }
        }
    }

    /// Retrieves and ranks: the best `max_candidates` kept items in order of ranker score, ties by
    /// retrieval score, then by ascending [`ItemIndex`]. When the ranker fails, its fault is given
    /// and retrieval order stays.
    ///
    /// # Errors
    /// As [`Engine::candidates`].
    pub fn order(
        &self,
        session: &SessionView,
        mask: &Mask,
        now: i64,
        memory: &mut SessionMemory,
    ) -> Result<Ranking> {
        let request = Request { now, ..Request::default() };
        self.order_until(session, mask, &request, memory, &Deadline::NONE)
    }

    fn order_until(
        &self,
        session: &SessionView,
        mask: &Mask,
        request: &Request,
        memory: &mut SessionMemory,
        deadline: &Deadline,
    ) -> Result<Ranking> {
        let before = deadline.elapsed_ms();
        let candidates = self.candidates(session, mask, memory)?;
        let retrieved = deadline.elapsed_ms();
        deadline.note(&mut memory.costs.retrieval_ms, retrieved - before);
        let allowed = deadline.allow("the ranker", &mut memory.costs.ranking_ms);
        let features = self.features.encode(session, &candidates, self.bundle.items(), request.now);
        let ranked = allowed.and_then(|()| {
            let failed = |error: Error| fault(FaultCode::RankerFailed, error.to_string());
            let scores = self.rank(&features, candidates.len()).map_err(failed);
            deadline.note(&mut memory.costs.ranking_ms, deadline.elapsed_ms() - retrieved);
            scores
        });
        let correction = request.correction.as_ref().filter(|correction| self.fits(correction));
        Ok(match ranked {
            Ok(scores) => Ranking::ordered(&candidates, &scores, &features, correction),
            Err(fault) => Ranking::unranked(candidates, features, fault),
        })
    }

    /// The query `[dim]` of a session: the encoder run over the last `max_session_len` of `items`,
    /// oldest first.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] without an encoder, without items or with one out of range,
    /// [`Code::InferenceFailed`] when the encoder fails or gives a value that is not finite.
    pub fn encode(&self, items: &[ItemIndex]) -> Result<Vec<f32>> {
        self.encode_remembering(items, &mut SessionMemory::default())
    }

    pub(crate) fn encode_remembering(
        &self,
        items: &[ItemIndex],
        memory: &mut SessionMemory,
    ) -> Result<Vec<f32>> {
        let encoder = self
            .encoder
            .as_deref()
            .ok_or_else(|| Error::new(Code::InvalidArgument, "the bundle has no encoder"))?;
        let table = self.bundle.items();
        if items.is_empty() || items.iter().any(|item| item.row() >= table.len()) {
            return Err(Error::new(Code::InvalidArgument, "the session cannot be encoded")
                .expected(format!("at least one row, each under {}", table.len()))
                .found(format!("{} rows", items.len())));
        }
        let max_len = self.bundle.manifest().limits.max_session_len as usize;
        let items = &items[items.len().saturating_sub(max_len)..];
        memory.query(encoder, self.bundle.hash(), items, table)
    }

    /// The best `k` kept items by dot product with `query` `[dim]`; none for a query of another
    /// length.
    #[must_use]
    pub fn retrieve(&self, query: &[f32], k: usize, mask: &Mask) -> Vec<Candidate> {
        if query.len() != self.bundle.items().dim() {
            return Vec::new();
        }
        self.bundle.items().top_k(query, k, mask)
    }

    /// The best `k` items for a session of rows, oldest first: encoder and scan, without ranker and policy.
    ///
    /// # Errors
    /// As [`Engine::encode`].
    pub fn encode_and_retrieve(
        &self,
        session: &[ItemIndex],
        k: usize,
        memory: &mut SessionMemory,
    ) -> Result<Vec<Candidate>> {
        let query = self.encode_remembering(session, memory)?;
        Ok(self.retrieve(&query, k, &Mask::all(self.bundle.items().len())))
    }

    /// Ranker scores `[num_candidates]` of features `[num_candidates, num_features]`.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for another shape, [`Code::InferenceFailed`] when the ranker fails
    /// or gives a value that is not finite.
    pub fn rank(&self, features: &[f32], num_candidates: usize) -> Result<Vec<f32>> {
        let num_features = self.features.num_features();
        if num_candidates.checked_mul(num_features) != Some(features.len()) {
            return Err(Error::new(Code::InvalidArgument, "the feature matrix has the wrong shape")
                .expected(format!("[{num_candidates}, {num_features}]"))
                .found(format!("{} elements", features.len())));
        }
        if num_candidates == 0 {
            return Ok(Vec::new());
        }
        let scores = self.ranker.run(features, &[num_candidates, num_features])?;
        check_output("the ranker", &scores, num_candidates)?;
        Ok(scores)
    }

    /// The items most similar to one item, without that item: by cosine of their vectors, or without an
    /// encoder by the weights of the item's neighbours, of which only those above 0 count. `limit` is
    /// lowered to the bundle's limit; scores are cosines or weights.
    ///
    /// # Errors
    /// [`Code::UnknownItem`].
    pub fn similar(&self, item_id: &ItemId, limit: u32) -> Result<Vec<Recommendation>> {
        let item = self.bundle.item_index(item_id).ok_or_else(|| {
            Error::new(Code::UnknownItem, "the item is not in this bundle").found(quoted(item_id.as_str()))
        })?;
        let limit = limit.min(self.bundle.manifest().limits.max_limit) as usize;
        let candidates = self.similar_candidates(item, limit);
        let reason = |candidate: &Candidate| match candidate.source {
            Source::Neighbours => Reason::ChosenWith { item_id: item_id.clone(), weight: candidate.score },
            _ => Reason::SimilarTo { item_id: item_id.clone(), similarity: candidate.score },
        };
        let listed = candidates.iter().map(|candidate| Listed {
            item: candidate.item,
            source: candidate.source,
            score: candidate.score,
            reasons: vec![reason(candidate)],
            propensity: None,
        });
        Ok(self.number(listed))
    }

    fn list_ranking(
        &self,
        ranking: &Ranking,
        session: &SessionView,
        request: &Request,
        limit: usize,
    ) -> List {
        let (kept, explored) = self.select(ranking, request, limit);
        let weights = self.features.category_weights(session, REASON_DECAY);
        let explainer = Explainer::new(&self.bundle, session, weights);
        let listed = kept.iter().enumerate().map(|(place, at)| {
            let candidate = ranking.candidates[*at];
            let explored = explored.as_ref().map(|places| places[place]);
            let by_chance = explored.is_some_and(|explored| explored.by_chance);
            Listed {
                item: candidate.item,
                source: if by_chance { Source::Exploration } else { candidate.source },
                score: ranking.scores[*at],
                reasons: explainer.reasons(&candidate),
                propensity: explored.map(|explored| explored.propensity),
            }
        });
        let num_features = self.features.num_features();
        let rows = kept.iter().map(|at| &ranking.features[at * num_features..(at + 1) * num_features]);
        List {
            listed: listed.collect(),
            features: rows.flatten().copied().collect(),
            score_deviation: ranking.score_deviation,
            retrieval_scores: kept.iter().map(|at| ranking.candidates[*at].score).collect(),
        }
    }

    /// The kept items of the request's segment, then all others in the bundle's order.
    fn list_fallback(&self, mask: Mask, request: &Request, limit: usize) -> List {
        let segment = self.bundle.segments().of(&request.context).iter().copied();
        let ordered = segment.chain(0..mask.len() as u32).map(ItemIndex);
        let cap = policy::category_cap(&request.rules, &self.bundle.manifest().policy);
        let kept = policy::cap_categories(self.bundle.vocabulary(), ordered, mask, cap, limit);
        let listed = |item: &ItemIndex| Listed {
            item: *item,
            source: Source::Fallback,
            score: 0.0,
            reasons: vec![Reason::Popular],
            propensity: None,
        };
        List { listed: kept.iter().map(listed).collect(), ..List::default() }
    }

    /// Puts the pinned items at their places; the list keeps as many of its own, from the top, as there is room for.
    fn pin(&self, list: List, pins: &[(usize, ItemIndex)], limit: usize) -> Outcome {
        let List { listed, mut features, score_deviation, mut retrieval_scores } = list;
        let pinned = |(place, item): &(usize, ItemIndex)| {
            let reasons = vec![Reason::Pinned];
            (*place, Listed { item: *item, source: Source::Pinned, score: 0.0, reasons, propensity: None })
        };
        let listed = policy::place(listed, pins.iter().map(pinned).collect(), limit);
        let num_own = listed.iter().filter(|one| one.source != Source::Pinned).count();
        retrieval_scores.truncate(num_own);
        features.truncate(num_own * self.features.num_features());
        Outcome {
            response: Response { recommendations: self.number(listed), faults: Vec::new() },
            features,
            score_deviation,
            retrieval_scores,
            ..Outcome::default()
        }
    }

    /// Positions in `ranking` of what is listed: boosted, diversified, capped, explored; and what exploration made of each.
    fn select(
        &self,
        ranking: &Ranking,
        request: &Request,
        limit: usize,
    ) -> (Vec<usize>, Option<Vec<Explored>>) {
        let rules = &request.rules;
        let items: Vec<ItemIndex> = ranking.candidates.iter().map(|candidate| candidate.item).collect();
        let added = policy::boosts(&self.bundle, &rules.boosts, &items);
        let scores: Vec<f32> =
            ranking.corrected.iter().zip(&added).map(|(score, added)| score + added).collect();
        let ordered = match rules.boosts.is_empty() {
            true => (0..items.len()).collect(),
            false => sorted_positions(items.len(), &|a, b| score_descending(scores[a], scores[b])),
        };
        let cap = policy::category_cap(rules, &self.bundle.manifest().policy);
        let mut cap = policy::CategoryCap::new(self.bundle.vocabulary(), cap);
        let diversity = rules.diversity.unwrap_or(0.0);
        let table = self.bundle.items();
        let directions = (diversity > 0.0 && !table.is_empty()).then(|| table.directions(&items));
        let alike = |at: usize| match &directions {
            Some(directions) => directions.cosines(at),
            None => items.iter().map(|other| self.share_category(items[at], *other)).collect(),
        };
        let mut kept =
            policy::diversify(&ordered, &scores, &ranking.corrected, diversity, limit, alike, |at| {
                cap.admits(items[at])
            });
        let explored = rules
            .exploration
            .filter(|share| *share > 0.0)
            .map(|share| policy::explore(&mut kept, items.len(), share, request.seed, &items, &mut cap));
        (kept, explored)
    }

    /// How alike two items without vectors are: 1 for a common first category.
    fn share_category(&self, a: ItemIndex, b: ItemIndex) -> f32 {
        let first = |item: ItemIndex| self.bundle.vocabulary().categories_of(item).next();
        if first(a).is_some() && first(a) == first(b) { 1.0 } else { 0.0 }
    }

    fn number(&self, listed: impl IntoIterator<Item = Listed>) -> Vec<Recommendation> {
        let with_id = listed.into_iter().filter_map(|one| Some((self.bundle.item_id(one.item)?.into(), one)));
        with_id
            .zip(1..)
            .map(|((item_id, one), position)| Recommendation {
                item_id,
                position,
                score: one.score,
                source: one.source,
                reasons: one.reasons,
                propensity: one.propensity,
            })
            .collect()
    }
}

/// What is listed, before it has a position.
struct Listed {
    item: ItemIndex,
    source: Source,
    score: f32,
    reasons: Vec<Reason>,
    propensity: Option<f32>,
}

/// A list before the pinned items, with what telemetry counts of it and a correction learns from.
#[derive(Default)]
struct List {
    listed: Vec<Listed>,
    features: Vec<f32>,
    score_deviation: f32,
    retrieval_scores: Vec<f32>,
}

/// Asks the encoder, or runs it on zeros where it does not know. Values are not looked at: a model may divide by the
/// length of a vector.
fn check_longest_session(encoder: &dyn Scorer, manifest: &Manifest) -> Result<()> {
    let (len, dim) = (manifest.limits.max_session_len as usize, manifest.shapes.dim as usize);
    let invalid = |found: String| {
        Error::new(Code::ModelInvalid, "encoder.onnx cannot encode a session of max_session_len")
            .expected(format!("f32 [1, {len}, {dim}] to f32 [1, {dim}]"))
            .found(found)
    };
    match encoder.max_len() {
        Some(max_len) if max_len < len => return Err(invalid(format!("at most {max_len} items"))),
        Some(_) => return Ok(()),
        None => {}
    }
    let query =
        encoder.run(&vec![0.0; len * dim], &[1, len, dim]).map_err(|error| invalid(error.to_string()))?;
    if query.len() == dim { Ok(()) } else { Err(invalid(format!("{} values", query.len()))) }
}

fn fault(code: FaultCode, detail: String) -> Fault {
    Fault { code, detail }
}
