//! The model card: what a person should know before using a bundle (Mitchell et al. 2019).

use std::fmt::Write;

use sanderling_types::{Metric, PackingKind, PackingStep, Quantisation};

use crate::bundle::Facts;
use crate::evaluate::Evaluation;
use crate::rankers::choice::RankerReport;
use crate::recommenders::Choice;

/// Markdown for `card.md`.
#[must_use]
pub fn card(
    facts: &Facts,
    settings: &str,
    evaluation: &Evaluation,
    choice: Option<&Choice>,
    ranker: &RankerReport,
) -> String {
    let mut out = String::new();
    let t = &facts.training;
    // Writing to a string cannot fail.
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    line(format!("# {} version {}\n", facts.name, facts.version));
    line(format!(
        "A `{}` recommender over {} items, trained on {} interactions of {} users or sessions \
         (split `{}`, seed {}). Settings: {settings}.\n",
        facts.recommender, facts.shapes.num_items, t.num_interactions, t.num_users, t.split, t.seed
    ));
    line(format!(
        "## Measured on {} test cases, from the packed bundle run by the engine\n",
        evaluation.num_cases
    ));
    line("| metric | this bundle (95 % interval) | baselines |\n|---|---|---|".to_owned());
    for (name, metric) in &evaluation.metrics {
        let baselines: Vec<String> = evaluation
            .baselines
            .iter()
            .filter_map(|(baseline, metrics)| Some(format!("{baseline} {:.4}", metrics.get(name)?.value)))
            .collect();
        line(format!(
            "| {name} | {:.4} ({:.4} to {:.4}) | {} |",
            metric.value,
            metric.low,
            metric.high,
            baselines.join(", ")
        ));
    }
    line(packing(&facts.quantisation));
    choice.into_iter().flat_map(choice_lines).for_each(&mut line);
    ranker_lines(ranker).into_iter().for_each(&mut line);
    line("## Limits\n".to_owned());
    line(format!(
        "Reads the newest {} interactions of a history. Items without training interactions are listed only where \
         their attributes give them a vector. Intervals resample users, not training runs.",
        facts.limits.max_session_len
    ));
    out
}

fn packing(quantisation: &Quantisation) -> String {
    if quantisation.steps.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "\n## Packing\n\nValidation NDCG@10 in retrieval order (without the ranker), {:.4} with f32 weights:\n\n\
         | step | NDCG@10 after it | bytes saved |\n|---|---|---|\n",
        quantisation.ndcg10_f32
    );
    for step in &quantisation.steps {
        let _ = writeln!(out, "| {} | {:.4} | {} |", step_words(step), step.ndcg10, step.saved_bytes);
    }
    out
}

/// A step of packing for people.
#[must_use]
pub fn step_words(step: &PackingStep) -> String {
    match (step.kind, step.pruned) {
        (PackingKind::Int9Items, _) => "item vectors to 9 bits".to_owned(),
        (PackingKind::Int8Items, _) => "item vectors to 8 bits".to_owned(),
        (PackingKind::RoundedEncoder, _) => "encoder to 8 and 11 bits".to_owned(),
        (PackingKind::Int8Neighbours, _) => "neighbours to 8 bits".to_owned(),
        (PackingKind::Int4Items, _) => "item vectors to 4 bits".to_owned(),
        (_, Some(pruned)) => format!(
            "{} least popular items left out ({:.2} % of training interactions, {:.2} % of validation targets)",
            pruned.num_items,
            100.0 * pruned.interaction_share,
            100.0 * pruned.target_share
        ),
        (_, None) => "items left out".to_owned(),
    }
}

/// What the card of a bundle says after items were added to it.
#[must_use]
pub fn note_of_additions(num_added: usize, version: u64) -> String {
    format!(
        "\n## Added since\n\nVersion {version}: {num_added} items placed by their attributes, without training. What \
         was measured above was measured before that.\n"
    )
}

/// The recommenders that were tried, and why one was taken.
fn choice_lines(choice: &Choice) -> Vec<String> {
    let mut lines = vec![
        format!("## Chosen: {}\n\nIt has {}.\n", choice.chosen, choice.reason),
        "| tried | validation NDCG@10 (95 % interval) | bytes | settings |\n|---|---|---|---|".to_owned(),
    ];
    lines.extend(choice.contenders.iter().map(|contender| {
        let metric = contender.validation_ndcg10;
        let over = if contender.fits_budget { "" } else { ", over the budget" };
        format!(
            "| {} | {:.4} ({:.4} to {:.4}) | about {}{over} | {} |",
            contender.name, metric.value, metric.low, metric.high, contender.bundle_bytes, contender.settings
        )
    }));
    lines.push(String::new());
    lines
}
fn ranker_lines(ranker: &RankerReport) -> Vec<String> {
    let mut lines =
        vec!["## Ranker\n".to_owned(), format!("`{}`: {}.\n", ranker.kind.as_str(), ranker.reason)];
    if !ranker.measured.is_empty() {
        lines.push(format!(
            "Measured on {} validation lists, each by a ranker that was fitted without its user:\n\n\
             | ranker | NDCG@10 (95 % interval) | gain on retrieval order |\n|---|---|---|",
            ranker.num_lists
        ));
    }
    for measured in &ranker.measured {
        let words = |m: &Metric| format!("{:.4} ({:.4} to {:.4})", m.value, m.low, m.high);
        let kind = measured.kind.as_str();
        lines.push(format!("| {kind} | {} | {} |", words(&measured.ndcg10), words(&measured.gain_ndcg10)));
    }
    lines.push(String::new());
    lines
}
