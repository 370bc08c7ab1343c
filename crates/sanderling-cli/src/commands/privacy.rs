//! `sanderling privacy`.

use std::path::PathBuf;

use clap::Args;
use sanderling_collector::drift::Options;
use sanderling_collector::{Config, RegisteredBundle};
use sanderling_types::Result;
use serde::Serialize;

use crate::output::{Output, Verdict};

const SECONDS_PER_DAY: u32 = 86_400;

/// State what devices of a bundle reveal: every number that bounds it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling privacy bundles/shop\n\n\
    Budget, length and window are the bundle's; devices and the collector refuse any other. Retention and the least number of\n\
    answers are the collector's defaults.")]
pub(crate) struct Privacy {
    /// Bundle folder.
    bundle: PathBuf,
}

/// The statement. Each number is one constant: of the bundle's manifest, or a default of the collector.
#[derive(Debug, Serialize)]
struct Statement {
    reports_per_day: f64,
    report_bytes: u32,
    bytes_per_day: f64,
    epsilon_per_report: f64,
    epsilon_per_day: f64,
    fields_per_report: u32,
    epsilon_per_field: f64,
    fields: Vec<Field>,
    retention_days: u32,
    min_answers: u64,
}

/// A declared field, and how often the noise leaves what was drawn.
#[derive(Debug, Serialize)]
struct Field {
    name: String,
    num_bins: usize,
    keep_probability: f64,
}

fn statement(bundle: &RegisteredBundle) -> Result<Statement> {
    let telemetry = bundle.telemetry();
    let reports_per_day = f64::from(SECONDS_PER_DAY) / f64::from(telemetry.window_seconds.max(1));
    let field = |field: &sanderling_types::BaselineField| {
        let num_bins = field.bins.num_bins();
        let channel = sanderling_sketch::noise::Channel::new(bundle.epsilon_per_field(), num_bins)?;
        Ok(Field { name: field.name.clone(), num_bins, keep_probability: channel.keep_probability() })
    };
    Ok(Statement {
        reports_per_day,
        report_bytes: telemetry.report_bytes,
        bytes_per_day: reports_per_day * f64::from(telemetry.report_bytes),
        epsilon_per_report: telemetry.epsilon,
        epsilon_per_day: reports_per_day * telemetry.epsilon,
        fields_per_report: telemetry.fields_per_report.min(bundle.baseline().fields.len() as u32),
        epsilon_per_field: bundle.epsilon_per_field(),
        fields: bundle.baseline().fields.iter().map(field).collect::<Result<_>>()?,
        retention_days: Config::default().retention_seconds / SECONDS_PER_DAY,
        min_answers: Options::default().min_answers,
    })
}

fn text(statement: &Statement) -> String {
    let mut lines = vec![
        format!(
            "A device whose user agreed sends at most {} reports a day of exactly {} bytes, and nothing else.",
            statement.reports_per_day, statement.report_bytes
        ),
        format!(
            "A report answers {} of {} fields, drawn without looking, each with one of the device's own values after noise.",
            statement.fields_per_report,
            statement.fields.len()
        ),
        format!(
            "For any two histories the probability of a report differs by the factor e^{} at most: epsilon {} a report, {} a day.",
            statement.epsilon_per_report, statement.epsilon_per_report, statement.epsilon_per_day
        ),
        "It holds no identifier of a user, a device or a session; its time is the start of its window. An item or a category is\n\
         at most one of the bins that the bundle declares, after noise."
            .to_owned(),
        format!(
            "The collector forgets single reports after {} days and shows nothing that rests on fewer than {} answers.",
            statement.retention_days, statement.min_answers
        ),
        format!("{:<32}{:>6}{:>16}", "field", "bins", "true bin kept"),
    ];
    lines.extend(statement.fields.iter().map(|field| {
        format!("{:<32}{:>6}{:>15.1}%", field.name, field.num_bins, 100.0 * field.keep_probability)
    }));
    lines.join("\n")
}

pub(crate) fn run(args: &Privacy, output: &Output) -> Result<Verdict> {
    let statement = statement(&RegisteredBundle::read(&args.bundle)?)?;
    output.result(&statement, &text(&statement))?;
    Ok(Verdict::Done)
}
