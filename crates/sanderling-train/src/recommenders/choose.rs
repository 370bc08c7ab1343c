//! Which recommender a bundle is made of: the one with the best validation NDCG@10 of its packed bundle
//! among those within the byte budget.

use sanderling_types::{Code, Error, Metric, Result};
use serde::Serialize;

use super::{Model, Recommender, SecondSource, fit};
use crate::catalogue::Catalogue;
use crate::metrics::{self, CaseResult};
use crate::pack;
use crate::recipe::Recipe;
use crate::sequence::{Epoch, FitState};
use crate::split::Split;
use crate::train::{self, Lineage, Packer, Step};

/// Half the width of a 95 % interval in standard errors.
const STANDARD_ERRORS: f64 = 1.96;

/// A recommender that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contender {
    /// As in the manifest.
    pub name: String,
    /// NDCG@10 of the packed bundle run by the engine on the validation cases that models are chosen by,
    /// half of them at a time with a linear ranker that was fitted on the other half of the users.
    pub validation_ndcg10: Metric,
    /// Length of the bundle, its small files estimated.
    pub bundle_bytes: u64,
    /// Whether that is within the budget.
    pub fits_budget: bool,
    /// What was chosen on the way, for people.
    pub settings: String,
}

/// Why a bundle is made of what it is made of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// Everything that was tried, in that order.
    pub contenders: Vec<Contender>,
    /// Name of the one that was taken.
    pub chosen: String,
    /// Why, for people.
    pub reason: String,
}

/// What training needs to know, and whom it tells.
pub(crate) struct Job<'a> {
    pub(crate) split: &'a Split,
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) recipe: &'a Recipe,
    pub(crate) lineage: &'a Lineage,
    pub(crate) watch: &'a mut dyn FnMut(Step<'_>) -> bool,
}

impl Job<'_> {
    /// Tells what is done next.
    ///
    /// # Errors
    /// [`Code::Cancelled`] when the answer is to stop.
    pub(crate) fn tell(&mut self, step: Step<'_>) -> Result<()> {
        if (self.watch)(step) { Ok(()) } else { Err(Error::new(Code::Cancelled, "training was stopped")) }
    }
}

/// The draft bundle that was chosen.
pub(crate) struct Chosen {
    pub(crate) packer: Packer,
    /// What was chosen on the way, for people.
    pub(crate) settings: String,
    /// Epochs of the sequence model; none where another recommender was chosen.
    pub(crate) curve: Vec<Epoch>,
    /// `None` where there was nothing to choose between.
    pub(crate) choice: Option<Choice>,
}

/// A packed contender with its answers to the choosing cases.
struct Tried {
    packer: Packer,
    contender: Contender,
    answers: Vec<CaseResult>,
}

/// Fits and packs what the recipe asks for.
///
/// # Errors
/// As [`train::train`].
pub(crate) fn choose(job: &mut Job<'_>, resume: Option<FitState>) -> Result<Chosen> {
    match (job.recipe.recommender, job.recipe.second_source()) {
        (Recommender::Auto, _) | (Recommender::Sequence, SecondSource::Auto) => contest(job, resume),
        (Recommender::Sequence, second) => {
            let (mut model, curve) = sequence(job, resume)?;
            if let Some(table) = second.table() {
                model = model.beside(&fitted(job, table)?);
            }
            alone(job, &model, curve)
        }
        (recommender, _) => {
            let model = fitted(job, recommender)?;
            alone(job, &model, Vec::new())
        }
    }
}

/// The only contender.
fn alone(job: &mut Job<'_>, model: &Model, curve: Vec<Epoch>) -> Result<Chosen> {
    job.tell(Step::Doing("packing the bundle"))?;
    let packer = pack::pack(job.split, job.recipe, job.lineage, model)?;
    Ok(Chosen { packer, settings: model.settings.clone(), curve, choice: None })
}

/// Tries every recommender, or the sequence model with and without a second source.
fn contest(job: &mut Job<'_>, resume: Option<FitState>) -> Result<Chosen> {
    let is_auto = job.recipe.recommender == Recommender::Auto;
    let cheap: &[Recommender] = if is_auto { &Recommender::CHEAP } else { &Recommender::TABLES };
    let (mut tables, mut tried) = (Vec::new(), Vec::new());
    for &recommender in cheap {
        let model = fitted(job, recommender)?;
        if is_auto {
            tried.push(attempt(job, &model)?);
        }
        if model.neighbours.is_some() {
            tables.push(model);
        }
    }
    let (model, curve) = sequence(job, resume)?;
    tried.push(attempt(job, &model)?);
    if let Some(table) = second_source(job.recipe.second_source(), &tables) {
        let both = model.beside(table);
        job.tell(Step::Fitting(&both.name))?;
        tried.push(attempt(job, &both)?);
    }
    decide(tried, curve, job.recipe)
}

/// A recommender that needs no passes over the data.
fn fitted(job: &mut Job<'_>, recommender: Recommender) -> Result<Model> {
    job.tell(Step::Fitting(recommender.as_str()))?;
    fit(recommender, job.split, job.recipe)
}

fn sequence(job: &mut Job<'_>, resume: Option<FitState>) -> Result<(Model, Vec<Epoch>)> {
    job.tell(Step::Fitting(Recommender::Sequence.as_str()))?;
    let fitted =
        train::fit(job.split, &job.catalogue.content, job.recipe, job.lineage, resume, &mut *job.watch)?;
    Ok((Model::of_sequence(&fitted.weights, job.split, job.catalogue)?, fitted.curve))
}

/// The table that is named, or else the one with the best validation NDCG@10; `None` where none is wanted.
fn second_source(second: SecondSource, tables: &[Model]) -> Option<&Model> {
    if second == SecondSource::None {
        return None;
    }
    let named = |model: &&Model| second.table().is_none_or(|table| table.as_str() == model.name);
    tables.iter().filter(named).fold(None, |best: Option<&Model>, table| match best {
        Some(best) if table.ndcg10_f32 <= best.ndcg10_f32 => Some(best),
        _ => Some(table),
    })
}

fn attempt(job: &mut Job<'_>, model: &Model) -> Result<Tried> {
    let mut packer = pack::pack(job.split, job.recipe, job.lineage, model)?;
    let answers = packer.cross_fitted_answers(job.split, job.recipe)?;
    let results: Vec<&CaseResult> = answers.iter().collect();
    let bundle_bytes = packer.estimated_bytes()?;
    let contender = Contender {
        name: model.name.clone(),
        validation_ndcg10: metrics::ndcg10_and_hr10(&results, job.recipe.seed).0,
        bundle_bytes,
        fits_budget: job.recipe.max_bundle_bytes.is_none_or(|max| bundle_bytes <= max),
        settings: model.settings.clone(),
    };
    job.tell(Step::Measured(&contender))?;
    Ok(Tried { packer, contender, answers })
}

/// Takes the best within the budget; a second source only where it is worth more than chance.
fn decide(mut tried: Vec<Tried>, curve: Vec<Epoch>, recipe: &Recipe) -> Result<Chosen> {
    let mut order: Vec<usize> = (0..tried.len()).filter(|&at| tried[at].contender.fits_budget).collect();
    order.sort_by(|a, b| value(&tried[*b]).total_cmp(&value(&tried[*a])));
    let Some(&best) = order.first() else {
        let least = tried.iter().map(|tried| tried.contender.bundle_bytes).min().unwrap_or(0);
        return Err(Error::new(Code::BudgetExceeded, "no recommender's bundle is within the budget")
            .expected(format!("at most {} bytes", recipe.max_bundle_bytes.unwrap_or(u64::MAX)))
            .found(format!("{least} bytes")));
    };
    let alone = order.iter().copied().find(|&at| is_second_source_of(&tried[best], &tried[at]));
    let excess = alone.map(|alone| {
        (alone, metrics::paired_ndcg10(&tried[best].answers, &tried[alone].answers, recipe.seed))
    });
    let (chosen, reason) = match excess {
        Some((alone, gain)) if gain.value <= (gain.high - gain.low) / (2.0 * STANDARD_ERRORS) => (
            alone,
            format!(
                "the neighbours of {} add {:.4} ({:.4} to {:.4}), which is not more than a standard error",
                tried[best].contender.name, gain.value, gain.low, gain.high
            ),
        ),
        _ => (best, reason_for_the_best(&tried, &order, recipe)),
    };
    let contenders: Vec<Contender> = tried.iter().map(|tried| tried.contender.clone()).collect();
    let name = contenders[chosen].name.clone();
    let is_sequence = name.starts_with(Recommender::Sequence.as_str());
    Ok(Chosen {
        packer: tried.swap_remove(chosen).packer,
        settings: contenders[chosen].settings.clone(),
        curve: if is_sequence { curve } else { Vec::new() },
        choice: Some(Choice { contenders, chosen: name, reason }),
    })
}

fn value(tried: &Tried) -> f64 {
    tried.contender.validation_ndcg10.value
}

fn is_second_source_of(both: &Tried, alone: &Tried) -> bool {
    both.contender.name.strip_prefix(&alone.contender.name).is_some_and(|rest| rest.starts_with('+'))
}

fn reason_for_the_best(tried: &[Tried], order: &[usize], recipe: &Recipe) -> String {
    let budget = recipe.max_bundle_bytes.map_or_else(String::new, |max| format!(" within {max} bytes"));
    let best = &tried[order[0]];
    let lead = format!("the best validation NDCG@10 of {}{budget}", order.len());
    let Some(&next) = order.get(1) else { return lead };
    let gain = metrics::paired_ndcg10(&best.answers, &tried[next].answers, recipe.seed);
    format!(
        "{lead}: {:.4} ({:.4} to {:.4}) above {}",
        gain.value, gain.low, gain.high, tried[next].contender.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_source_is_the_named_table_or_the_best() {
        let table = |name: &str, ndcg10_f32| Model { name: name.to_owned(), ndcg10_f32, ..Model::default() };
        let tables = [table("item-knn", 0.1), table("vmis-knn", 0.3), table("ease", 0.3)];
        let name = |second| second_source(second, &tables).map(|model| model.name.as_str());
        assert_eq!(name(SecondSource::Auto), Some("vmis-knn"), "the first of equals");
        assert_eq!(name(SecondSource::ItemKnn), Some("item-knn"));
        assert_eq!(
            (name(SecondSource::None), second_source(SecondSource::Auto, &[]).is_some()),
            (None, false)
        );
    }
}
