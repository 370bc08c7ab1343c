//! The model card: what a person should know before using a bundle (Mitchell et al. 2019).

use std::fmt::Write;

use sanderling_types::Metric;

use crate::bundle::Facts;
use crate::evaluate::Evaluation;
use crate::rankers::choice::RankerReport;

/// Markdown for `card.md`.
#[must_use]
pub fn card(facts: &Facts, evaluation: &Evaluation, ranker: &RankerReport) -> String {
    let mut out = String::new();
    let t = &facts.training;
    // Writing to a string cannot fail.
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    line(format!("# {} version {}\n", facts.name, facts.version));
    line(format!(
        "A `{}` recommender over {} items, trained on {} interactions of {} users or sessions \
         (split `{}`, seed {}).\n",
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
    let q = &facts.quantisation;
    line(format!(
        "\nPacking item vectors to {} bits and the encoder to {}: validation NDCG@10 {:.4} with f32 weights in \
         retrieval order, {:.4} from the bundle.\n",
        q.item_bits, q.encoder_bits, q.ndcg10_f32, q.ndcg10_packed
    ));
    line("## Ranker\n".to_owned());
    line(format!("`{}`: {}.\n", ranker.kind.as_str(), ranker.reason));
    if !ranker.measured.is_empty() {
        line(format!(
            "Measured on {} validation lists, each by a ranker that was fitted without its user:\n\n\
             | ranker | NDCG@10 (95 % interval) | gain on retrieval order |\n|---|---|---|",
            ranker.num_lists
        ));
    }
    for measured in &ranker.measured {
        let words = |m: &Metric| format!("{:.4} ({:.4} to {:.4})", m.value, m.low, m.high);
        let kind = measured.kind.as_str();
        line(format!("| {kind} | {} | {} |", words(&measured.ndcg10), words(&measured.gain_ndcg10)));
    }
    line("\n## Limits\n".to_owned());
    line(format!(
        "Reads the newest {} interactions of a history. Knows only items with training interactions; \
         others are never listed. Intervals resample users, not training runs.",
        facts.limits.max_session_len
    ));
    out
}
