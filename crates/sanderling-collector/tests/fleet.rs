//! A month of a fleet with everything that goes wrong between devices and a collector: whatever is
//! acknowledged is counted once, and nothing else is counted. And what devices that lie can do.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the collector is native")]
#![allow(clippy::print_stdout, reason = "the tables are worth reading")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sanderling_collector::drift::{FieldDrift, Options, judge};
use sanderling_collector::{Config, ManualClock, Reader, Store, StoreOptions};
use support::fleet::{DAY, Fate, Fleet, HOUR, NO_FAULTS, Plan, RETENTION, ROUGH, channel};
use support::{
    Client, Collector, Database, Kind, SHARES, WINDOW, baseline, bundle, for_every_database, open, wait_for,
};

for_every_database!(
    a_month_of_faults_loses_no_acknowledged_report_and_doubles_none,
    forged_reports_move_shares_by_their_part_of_the_answers_and_no_more,
);

/// Days whose noon the collector is stopped at, in the middle of requests.
const STOPS: [i64; 6] = [3, 8, 13, 18, 23, 27];
/// How long it is gone then.
const OUTAGE: i64 = 2 * HOUR;
/// When nothing can be stored, in hours of the simulation.
const STORM: std::ops::Range<i64> = 15 * 24..15 * 24 + 1;

/// A collector that comes and goes, and its database.
struct Site {
    database: Database,
    clock: Arc<ManualClock>,
    collector: Option<Collector>,
}

impl Site {
    fn new(kind: Kind) -> Self {
        Self { database: Database::new(kind), clock: Arc::new(ManualClock::new(WINDOW)), collector: None }
    }

    fn start(&mut self, options: &StoreOptions, fleet: &mut Fleet) {
        drop(open(&self.database.location()));
        fleet.settle_unanswered(&self.database);
        let config = Config { clock: self.clock.clone(), retention_seconds: RETENTION, ..Config::default() };
        let store = Store::open(&self.database.location(), options).unwrap();
        let collector = Collector::start(store, config);
        fleet.connect(collector.address);
        self.collector = Some(collector);
        // Expired reports are deleted at the start, and by the hour of the real clock.
        let oldest = self.clock_now() - i64::from(RETENTION) - DAY;
        let question = format!("SELECT count(*) FROM reports WHERE window_start < {oldest}");
        wait_for("the deletion of expired reports", || self.database.number(&question) == 0);
    }

    fn clock_now(&self) -> i64 {
        sanderling_collector::Clock::now(self.clock.as_ref())
    }

    fn stop(&mut self) {
        self.collector.take().unwrap().stop().unwrap();
    }

    /// Stops while requests are open, and comes back after the outage.
    fn restart_amid_requests(&mut self, fleet: &mut Fleet) {
        let collector = self.collector.take().unwrap();
        let at = self.clock_now();
        fleet.send_together(at + OUTAGE, || {
            std::thread::sleep(Duration::from_millis(2));
            collector.stop().unwrap();
        });
        fleet.run_until(at + OUTAGE);
        self.start(&StoreOptions::default(), fleet);
        fleet.note("restarts");
    }

    /// Has the queue full until `end`: somebody holds the database, and reports that are known wait for it.
    fn storm(&mut self, fleet: &mut Fleet, end: i64) {
        self.stop();
        let narrow = StoreOptions { queue_capacity: 1, max_batch: 1, ..StoreOptions::default() };
        self.start(&narrow, fleet);
        let known = (0..fleet.book.len()).rev().find(|number| {
            fleet.book[*number].counted && fleet.book[*number].window > self.clock_now() - 5 * DAY
        });
        let body = fleet.body(known.unwrap());
        let client = self.collector.as_ref().unwrap().client();
        let blocker = self.database.block();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| fill_queue(&client, &body, &is_over));
            }
            wait_for("a full queue", || client.try_post(&body).unwrap().status() == 429);
            fleet.is_overloaded = true;
            fleet.run_until(end);
            fleet.is_overloaded = false;
            is_over.store(true, Ordering::SeqCst);
            drop(blocker);
        });
        self.stop();
        self.start(&StoreOptions::default(), fleet);
    }
}

fn fill_queue(client: &Client, body: &[u8], is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        let status = client.try_post(body).unwrap().status();
        assert!(status == 429 || status == 200, "{status}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn a_month_of_faults_loses_no_acknowledged_report_and_doubles_none(kind: Kind) {
    let num_devices = if kind == Kind::Sqlite { 2_000 } else { 400 };
    let plan =
        Plan { num_devices, num_days: 30, faults: ROUGH, wrong_clocks: 10, liars: 0, reports_of_a_liar: 0 };
    let mut site = Site::new(kind);
    let mut fleet = Fleet::new(plan, 3, Arc::clone(&site.clock));
    site.start(&StoreOptions::default(), &mut fleet);
    for day in 1..=plan.num_days {
        if STORM.start == day * 24 {
            fleet.run_until(WINDOW + STORM.start * HOUR);
            site.storm(&mut fleet, WINDOW + STORM.end * HOUR);
        }
        fleet.run_until(WINDOW + day * DAY + DAY / 2);
        if STOPS.contains(&day) {
            site.restart_amid_requests(&mut fleet);
            fleet.check_database(&site.database);
        }
    }
    // The deletion of what expired since the last start.
    site.stop();
    site.start(&StoreOptions::default(), &mut fleet);
    fleet.check_database(&site.database);
    check_outboxes(&fleet);
    check_storm(&fleet);
}

/// Every report ended in one way; which, and whether it was counted.
fn check_outboxes(fleet: &Fleet) {
    let mut ends: BTreeMap<(&Fate, bool), u64> = BTreeMap::new();
    for entry in &fleet.book {
        assert!(entry.counted || entry.fate != Fate::Acknowledged, "acknowledged and not counted");
        *ends.entry((&entry.fate, entry.counted)).or_default() += 1;
    }
    let num_ends: u64 = ends.values().sum();
    assert_eq!(num_ends, fleet.book.len() as u64);
    println!("{} reports", fleet.book.len());
    ends.iter().for_each(|((fate, counted), number)| {
        println!("{number:>8} {fate:?}, {}", if *counted { "counted" } else { "not counted" });
    });
    fleet.tally.iter().for_each(|(what, number)| println!("{number:>8} {what}"));
    let kinds = ["report_invalid", "report_too_large", "report_too_early", "report_expired"];
    for kind in kinds {
        assert!(ends.contains_key(&(&Fate::Refused(kind.to_owned()), false)), "{kind} never happened");
    }
    assert!(
        ends.contains_key(&(&Fate::Waiting, false)) && fleet.tally.contains_key("answer: 429 overloaded")
    );
    let num_expired =
        fleet.book.iter().filter(|entry| entry.counted && fleet.is_expired(entry.window)).count();
    assert!(num_expired > 0, "nothing counted was old enough for its id to be deleted");
    println!("{num_expired:>8} counted, their ids deleted");
}

/// How much more devices ask of a collector that refuses for an hour.
fn check_storm(fleet: &Fleet) {
    let mean = |hours: std::ops::Range<i64>| {
        let sum: u64 = hours.clone().map(|hour| fleet.requests.get(&hour).copied().unwrap_or(0)).sum();
        sum as f64 / (hours.end - hours.start) as f64
    };
    // The days before, but for the one on which the collector was gone.
    let normal = mean(9 * 24 + 12..13 * 24);
    let (storm, hour_after) = (mean(STORM), mean(STORM.end..STORM.end + 1));
    let day = mean(STORM.start..STORM.start + 24);
    println!(
        "requests an hour: {normal:.1}; in the hour of 429: {storm} ({:.2} times), in the one after: {hour_after} ({:.2}), on that day: {day:.1} ({:.2})",
        storm / normal,
        hour_after / normal,
        day / normal
    );
    assert!(storm <= 2.0 * normal, "the storm");
    assert!(hour_after <= 2.0 * normal, "the return");
    assert!(day <= 2.0 * normal, "the day of the storm");
}

/// What the devices' answers say of the first field, and the judgement.
struct Finding {
    share: f64,
    standard_error: f64,
    /// Part of the answers that is forged.
    forged: f64,
    field: FieldDrift,
}

fn week_with(kind: Kind, liars: usize, reports_of_a_liar: usize) -> Finding {
    let num_devices = if kind == Kind::Sqlite { 2_000 } else { 500 };
    let plan =
        Plan { num_devices, num_days: 7, faults: NO_FAULTS, wrong_clocks: 0, liars, reports_of_a_liar };
    let mut site = Site::new(kind);
    let mut fleet = Fleet::new(plan, 5, Arc::clone(&site.clock));
    site.start(&StoreOptions::default(), &mut fleet);
    fleet.run_until(WINDOW + 9 * DAY);
    fleet.check_database(&site.database);
    let reader = Reader::open(&site.database.location()).unwrap();
    let windows = WINDOW..WINDOW + 7 * DAY;
    let merged = reader.merged(bundle().hash(), &baseline(), windows.clone()).unwrap();
    let estimate = channel(0).debias(merged.answers[&baseline().fields[0].name].counts());
    let forged = num_devices * liars / 1_000 * reports_of_a_liar * 7;
    let report = judge(&reader, &bundle(), windows, &Options::default()).unwrap();
    Finding {
        share: estimate.shares[0],
        standard_error: estimate.standard_errors[0],
        forged: forged as f64 / estimate.num_answers as f64,
        field: report.fields[0].clone(),
    }
}

fn forged_reports_move_shares_by_their_part_of_the_answers_and_no_more(kind: Kind) {
    let (gain, lie) = (channel(0).gain(), channel(0).lie_probability());
    println!(
        "| liars | reports a window | part of the answers | share, true 0.4 | off | formula | bound | standard error | PSI | effect | shifted | drifted |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---|");
    for (liars, reports) in [(0, 1), (10, 1), (50, 1), (200, 1), (10, 5), (50, 5)] {
        let found = week_with(kind, liars, reports);
        let bias = found.share - SHARES[0];
        // A forged answer counts as (1 - lie) / gain answers, which is under 1 / gain, in the place of an honest one.
        let (formula, bound) = (found.forged * ((1.0 - lie) / gain - SHARES[0]), found.forged / gain);
        let FieldDrift { psi, effect, shifted, drifted, .. } = found.field;
        println!(
            "| {} % | {reports} | {:.3} | {:.3} | {bias:+.3} | {formula:+.3} | {bound:.3} | {:.3} | {:.3} | {:.3} | {shifted} | {drifted} |",
            liars as f64 / 10.0,
            found.forged,
            found.share,
            found.standard_error,
            psi.unwrap(),
            effect.unwrap()
        );
        assert!(bias.abs() <= bound + 4.0 * found.standard_error, "more than forged reports can do");
        assert!((bias - formula).abs() <= 4.0 * found.standard_error, "another bias than the mechanism's");
        match (liars, reports) {
            (0, _) => assert!(!drifted, "a false alarm"),
            (200, _) | (50, 5) => assert!(drifted, "not seen"),
            _ => {}
        }
    }
}
