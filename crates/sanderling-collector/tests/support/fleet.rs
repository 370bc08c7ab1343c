//! Simulated devices, some broken, behind a network that loses, delays and repeats, in front of a real collector.
//!
//! Time is simulated, requests are not: what is due within half an hour is sent at once, over TCP, from several threads.
//! Beside the devices, who learn only what reaches them, the fleet keeps a book of what the collector said.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;

use sanderling_collector::{ManualClock, Reader};
use sanderling_sketch::noise::{Channel, Rng, choose, choose_weighted, rng_from_seed};
use sanderling_types::BaselineField;

use super::{Client, Database, WINDOW, baseline, bundle, padded, unpadded};

pub const DAY: i64 = 86_400;
pub const HOUR: i64 = 3_600;
/// After how long raw reports are deleted here: less than the simulated time, so that it happens.
pub const RETENTION: u32 = 10 * DAY as u32;
/// What is due within this time of the next send is sent together with it.
const TOGETHER: i64 = 1_800;
const NUM_CONNECTIONS: usize = 16;
/// True bins of honest devices, as weights: the baseline's shares, and some for the field without them.
const TRUTH: [&[u64]; 3] = [&[4, 3, 2, 1], &[1, 1, 1, 1], &[60, 10, 15, 10, 5]];
/// As of `www/pkg/src/sender.ts`.
const FIRST_RETRY: i64 = 2 * HOUR;
const MAX_RETRY: i64 = DAY;
const MIN_RETRY: i64 = 60;
const MAX_REQUESTS_PER_DAY: u32 = 24;

/// What may go wrong with a send; each with its probability in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The request never arrives.
    LostBefore,
    /// The acknowledgement never arrives.
    LostAfter,
    /// The device gives up; the request arrives hours later.
    Delayed,
    /// The network delivers two copies at once.
    Repeated,
    /// The network delivers another copy after days.
    RepeatedLater,
    /// Bytes change on the way.
    Corrupted,
    /// The device restarts before the answer: it has its outbox, and has forgotten how often it tried.
    Restarted,
    /// The device is offline for days.
    Offline,
}

pub type Faults = &'static [(Fault, usize)];
pub const NO_FAULTS: Faults = &[];
pub const ROUGH: Faults = &[
    (Fault::LostBefore, 60),
    (Fault::LostAfter, 60),
    (Fault::Delayed, 20),
    (Fault::Repeated, 20),
    (Fault::RepeatedLater, 20),
    (Fault::Corrupted, 10),
    (Fault::Restarted, 20),
    (Fault::Offline, 10),
];

/// Who is in the fleet.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub num_devices: usize,
    pub num_days: i64,
    pub faults: Faults,
    /// Of a thousand devices, those whose clock is days ahead; as many are far behind.
    pub wrong_clocks: usize,
    /// Of a thousand devices, those that always answer bin 0 of the first field, without noise.
    pub liars: usize,
    /// How many reports, each with its own id, a liar sends a window.
    pub reports_of_a_liar: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A window of a device closes.
    Make { device: usize },
    /// The device sends.
    Attempt { number: usize },
    /// The network delivers a copy that nobody waits for.
    Deliver { number: usize },
}

/// What a device knows about a report of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Waiting,
    Acknowledged,
    /// For good, with this code.
    Refused(String),
}

/// A report; its number is its place in the book.
pub struct Entry {
    device: usize,
    pub window: i64,
    pub field: usize,
    pub bin: u16,
    pub fate: Fate,
    /// The collector said 201, whoever heard it, or the database had it.
    pub counted: bool,
    attempts: u32,
}

/// A request on its way.
struct Job {
    number: usize,
    due: i64,
    body: Vec<u8>,
    is_corrupted: bool,
    /// Whether the answer reaches the device.
    is_heard: bool,
}

struct Answer {
    status: u16,
    code: String,
    retry_after: i64,
}

pub struct Fleet {
    plan: Plan,
    clock: Arc<ManualClock>,
    now: i64,
    rng: Rng,
    events: BinaryHeap<Reverse<(i64, usize, Event)>>,
    num_events: usize,
    clients: Vec<Client>,
    pub book: Vec<Entry>,
    /// Sent, and no answer: the collector stopped. The database is asked before anything else is sent.
    unanswered: BTreeSet<usize>,
    /// A storm is on: answers with 429 are right.
    pub is_overloaded: bool,
    /// What happened how often.
    pub tally: BTreeMap<String, u64>,
    /// Requests of devices by the hour.
    pub requests: BTreeMap<i64, u64>,
    /// How many requests a device has made on a day: what it keeps beside its outbox.
    spent: BTreeMap<(usize, i64), u32>,
}

impl Fleet {
    /// The clock is the one that the fleet's collectors get.
    pub fn new(plan: Plan, seed: u8, clock: Arc<ManualClock>) -> Self {
        let mut fleet = Self {
            plan,
            clock,
            now: WINDOW,
            rng: rng_from_seed([seed; 32]),
            events: BinaryHeap::new(),
            num_events: 0,
            clients: Vec::new(),
            book: Vec::new(),
            unanswered: BTreeSet::new(),
            is_overloaded: false,
            tally: BTreeMap::new(),
            requests: BTreeMap::new(),
            spent: BTreeMap::new(),
        };
        for day in 1..=plan.num_days {
            for device in 0..plan.num_devices {
                let due = WINDOW + day * DAY + choose(DAY as usize, &mut fleet.rng) as i64;
                fleet.plan_for(due, Event::Make { device });
            }
        }
        fleet
    }

    /// Devices send there from now on.
    pub fn connect(&mut self, address: SocketAddr) {
        self.clients = (0..NUM_CONNECTIONS).map(|_| Client::new(address)).collect();
    }

    /// Lives until that time.
    pub fn run_until(&mut self, end: i64) {
        while self.events.peek().is_some_and(|Reverse((due, ..))| *due < end) {
            self.send_together(end, || ());
        }
        self.set_time(end);
    }

    /// Sends what is due next while `meanwhile` runs.
    pub fn send_together(&mut self, end: i64, meanwhile: impl FnOnce() + Send) {
        let Some(Reverse((first, ..))) = self.events.peek() else { return };
        self.set_time(*first);
        let until = end.min(self.now + TOGETHER);
        let mut jobs = Vec::new();
        while self.events.peek().is_some_and(|Reverse((due, ..))| *due < until) {
            let Some(Reverse((due, _, event))) = self.events.pop() else { break };
            self.happen(event, due, &mut jobs);
        }
        let answers = exchange(&self.clients, &jobs, meanwhile);
        self.check(&jobs, &answers);
        for (job, answer) in jobs.iter().zip(&answers) {
            if job.is_heard {
                self.hear(job, answer.as_ref());
            }
        }
    }

    /// Looks up in the database what nobody got an answer about.
    pub fn settle_unanswered(&mut self, database: &Database) {
        let stored = database.stored();
        for number in std::mem::take(&mut self.unanswered) {
            let is_new = stored.contains_key(&(number as u64)) && !self.book[number].counted;
            self.book[number].counted |= is_new;
            self.note(if is_new { "unanswered, stored" } else { "unanswered, nothing stored" });
        }
    }

    /// The encoding of a report that was made.
    pub fn body(&self, number: usize) -> Vec<u8> {
        let entry = &self.book[number];
        let mut report = unpadded(number as u64, &baseline().fields[entry.field].name, entry.bin);
        report.window_start = entry.window;
        padded(report).encode()
    }

    /// What the book says that was counted, by window, field and bin.
    pub fn expected(&self) -> BTreeMap<i64, Vec<Vec<u64>>> {
        let mut cells = BTreeMap::new();
        for entry in self.book.iter().filter(|entry| entry.counted) {
            let none = || baseline().fields.iter().map(|field| vec![0; field.bins.num_bins()]).collect();
            let fields: &mut Vec<Vec<u64>> = cells.entry(entry.window).or_insert_with(none);
            fields[entry.field][usize::from(entry.bin)] += 1;
        }
        cells
    }

    /// Everything that was counted, once each, and nothing else; raw ids as far as they are not older than the retention.
    pub fn check_database(&self, database: &Database) {
        assert!(self.unanswered.is_empty());
        let reader = Reader::open(&database.location()).unwrap();
        let expected = self.expected();
        for (window, fields) in &expected {
            let merged = reader.merged(bundle().hash(), &baseline(), *window..*window + 1).unwrap();
            let found = |field: &BaselineField| merged.answers[&field.name].counts().to_vec();
            let found: Vec<Vec<u64>> = baseline().fields.iter().map(found).collect();
            assert_eq!(found, *fields, "window {window}");
            assert_eq!(merged.num_reports, fields.iter().flatten().sum::<u64>(), "window {window}");
        }
        let all = reader.merged(bundle().hash(), &baseline(), i64::MIN..i64::MAX).unwrap();
        assert_eq!(all.num_windows, expected.len() as u64, "no window without a report in the book");

        let is_kept = |entry: &Entry| entry.counted && !self.is_expired(entry.window);
        let kept = self.book.iter().enumerate().filter(|(_, entry)| is_kept(entry));
        let kept: BTreeMap<u64, u64> = kept.map(|(number, _)| (number as u64, 1)).collect();
        assert!(database.stored() == kept, "the raw ids are those of counted reports within the retention");
    }

    pub fn is_expired(&self, window: i64) -> bool {
        window < self.now - i64::from(RETENTION) - DAY
    }

    pub fn note(&mut self, what: impl Into<String>) {
        *self.tally.entry(what.into()).or_default() += 1;
    }

    fn set_time(&mut self, time: i64) {
        self.now = self.now.max(time);
        self.clock.set(self.now);
    }

    fn plan_for(&mut self, due: i64, event: Event) {
        self.num_events += 1;
        self.events.push(Reverse((due, self.num_events, event)));
    }

    fn happen(&mut self, event: Event, due: i64, jobs: &mut Vec<Job>) {
        match event {
            Event::Make { device } => self.make(device, due),
            Event::Attempt { number } if self.spend(number, due) => {
                *self.requests.entry((due - WINDOW) / HOUR).or_default() += 1;
                self.attempt(number, due, jobs);
            }
            Event::Attempt { number } => {
                self.note("a device had no request left on a day");
                let delay = self.retry_delay(0, 0);
                self.plan_for((due.div_euclid(DAY) + 1) * DAY + delay, Event::Attempt { number });
            }
            Event::Deliver { number } => jobs.push(self.job(number, due, false)),
        }
    }

    /// Makes the report of the window before; the first of the devices are those with something special.
    fn make(&mut self, device: usize, due: i64) {
        let of_thousand = device * 1_000 / self.plan.num_devices;
        let is_liar = of_thousand < self.plan.liars;
        let wrong = of_thousand.checked_sub(self.plan.liars).map(|at| at / self.plan.wrong_clocks.max(1));
        let clock_error = match wrong {
            Some(0) if self.plan.wrong_clocks > 0 => 4 * DAY,
            Some(1) if self.plan.wrong_clocks > 0 => -40 * DAY,
            _ => 0,
        };
        let window = (due + clock_error).div_euclid(DAY) * DAY - DAY;
        for _ in 0..if is_liar { self.plan.reports_of_a_liar } else { 1 } {
            let (field, bin) = if is_liar { (0, 0) } else { self.honest_answer() };
            self.book.push(Entry {
                device,
                window,
                field,
                bin,
                fate: Fate::Waiting,
                counted: false,
                attempts: 0,
            });
            self.plan_for(due, Event::Attempt { number: self.book.len() - 1 });
        }
    }

    fn honest_answer(&mut self) -> (usize, u16) {
        let field = choose(TRUTH.len(), &mut self.rng);
        let truth = choose_weighted(TRUTH[field], &mut self.rng).unwrap();
        (field, channel(field).randomise(truth, &mut self.rng) as u16)
    }

    fn draw_fault(&mut self) -> Option<Fault> {
        let mut draw = choose(1_000, &mut self.rng);
        for (fault, thousandths) in self.plan.faults {
            if draw < *thousandths {
                return Some(*fault);
            }
            draw -= thousandths;
        }
        None
    }

    fn attempt(&mut self, number: usize, due: i64, jobs: &mut Vec<Job>) {
        let fault = self.draw_fault();
        if let Some(fault) = fault {
            self.note(format!("fault: {fault:?}"));
        }
        let heard = |fleet: &Self| fleet.job(number, due, true);
        match fault {
            None => jobs.push(heard(self)),
            Some(Fault::LostBefore) => self.retry(number, due, 0),
            Some(Fault::LostAfter) => {
                jobs.push(self.job(number, due, false));
                self.retry(number, due, 0);
            }
            Some(Fault::Delayed) => {
                let later = due + self.between(HOUR, 12 * HOUR);
                self.plan_for(later, Event::Deliver { number });
                self.retry(number, due, 0);
            }
            Some(Fault::Repeated) => jobs.extend([heard(self), self.job(number, due, false)]),
            Some(Fault::RepeatedLater) => {
                let later = due + self.between(DAY, 14 * DAY);
                self.plan_for(later, Event::Deliver { number });
                jobs.push(heard(self));
            }
            Some(Fault::Corrupted) => {
                let job = heard(self);
                jobs.push(self.corrupt(job));
            }
            Some(Fault::Restarted) => {
                jobs.push(self.job(number, due, false));
                self.book[number].attempts = 0;
                let later = due + self.between(60, HOUR);
                self.plan_for(later, Event::Attempt { number });
            }
            Some(Fault::Offline) => {
                let later = due + self.between(DAY, 15 * DAY);
                self.plan_for(later, Event::Attempt { number });
            }
        }
    }

    fn job(&self, number: usize, due: i64, is_heard: bool) -> Job {
        Job { number, due, body: self.body(number), is_corrupted: false, is_heard }
    }

    /// Damage that no JSON parser may overlook.
    fn corrupt(&mut self, mut job: Job) -> Job {
        let len = job.body.len();
        match choose(3, &mut self.rng) {
            0 => job.body.truncate(choose(len, &mut self.rng)),
            1 => job.body[choose(len, &mut self.rng)] = 0xFF,
            _ => job.body.resize(5_000, b' '),
        }
        Job { is_corrupted: true, ..job }
    }

    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + choose((high - low) as usize, &mut self.rng) as i64
    }

    /// `oneMoreRequest` of the device.
    fn spend(&mut self, number: usize, due: i64) -> bool {
        let spent = self.spent.entry((self.book[number].device, due.div_euclid(DAY))).or_default();
        let may = *spent < MAX_REQUESTS_PER_DAY;
        *spent += u32::from(may);
        may
    }

    fn retry(&mut self, number: usize, due: i64, retry_after: i64) {
        let delay = self.retry_delay(self.book[number].attempts, retry_after);
        self.book[number].attempts += 1;
        self.plan_for(due + delay, Event::Attempt { number });
    }

    /// `retryDelaySeconds` of the device.
    fn retry_delay(&mut self, attempts: u32, retry_after: i64) -> i64 {
        let bound = (FIRST_RETRY << attempts.min(16)).min(MAX_RETRY);
        retry_after + self.between(0, bound).max(MIN_RETRY)
    }

    /// What reaches the device.
    fn hear(&mut self, job: &Job, answer: Option<&Answer>) {
        match answer {
            Some(Answer { status: 200 | 201, .. }) => self.end(job.number, Fate::Acknowledged),
            Some(Answer { status: 400 | 409 | 413, code, .. }) => {
                self.end(job.number, Fate::Refused(code.clone()));
            }
            Some(answer) => self.retry(job.number, job.due, answer.retry_after),
            None => self.retry(job.number, job.due, 0),
        }
    }

    fn end(&mut self, number: usize, fate: Fate) {
        let before = std::mem::replace(&mut self.book[number].fate, fate);
        assert_eq!(before, Fate::Waiting, "report {number} was in the outbox twice");
    }

    /// Whether the collector's answers are the right ones, by the book.
    fn check(&mut self, jobs: &[Job], answers: &[Option<Answer>]) {
        for (job, answer) in jobs.iter().zip(answers) {
            let Some(answer) = answer else {
                self.note("no answer");
                self.unanswered.insert(job.number);
                continue;
            };
            self.note(format!("answer: {} {}", answer.status, answer.code));
            if answer.status == 201 {
                assert!(!self.book[job.number].counted, "report {} was counted twice", job.number);
                self.book[job.number].counted = true;
            }
            let expected = self.right_answers(job);
            let found = (answer.status, answer.code.as_str());
            assert!(expected.contains(&found), "report {}: {found:?} instead of {expected:?}", job.number);
        }
        let known = jobs
            .iter()
            .zip(answers)
            .filter(|(_, answer)| answer.as_ref().is_some_and(|answer| answer.status == 200));
        for (job, _) in known {
            let is_known = self.book[job.number].counted || self.unanswered.contains(&job.number);
            assert!(is_known, "report {} is called a duplicate and was never counted", job.number);
        }
    }

    fn right_answers(&self, job: &Job) -> &'static [(u16, &'static str)] {
        let window = self.book[job.number].window;
        if job.is_corrupted {
            &[(400, "report_invalid"), (413, "report_too_large")]
        } else if window > self.now + 300 {
            &[(400, "report_too_early")]
        } else if self.is_expired(window) {
            &[(400, "report_expired")]
        } else if self.is_overloaded {
            &[(429, "overloaded")]
        } else {
            &[(201, ""), (200, "")]
        }
    }
}

pub fn channel(field: usize) -> Channel {
    Channel::new(bundle().epsilon_per_field(), TRUTH[field].len()).unwrap()
}

/// Sends all of it at once; `None` where the connection failed.
fn exchange(clients: &[Client], jobs: &[Job], meanwhile: impl FnOnce() + Send) -> Vec<Option<Answer>> {
    let chunk = jobs.len().div_ceil(clients.len()).max(1);
    std::thread::scope(|scope| {
        let senders: Vec<_> = (jobs.chunks(chunk).zip(clients))
            .map(|(jobs, client)| {
                scope.spawn(|| jobs.iter().map(|job| post(client, &job.body)).collect::<Vec<_>>())
            })
            .collect();
        meanwhile();
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    })
}

fn post(client: &Client, body: &[u8]) -> Option<Answer> {
    let mut response = client.try_post(body).ok()?;
    let retry_after =
        response.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
    let text = response.body_mut().read_to_string().ok()?;
    let body: serde_json::Value = serde_json::from_str(&text).unwrap();
    Some(Answer {
        status: response.status().as_u16(),
        code: body["code"].as_str().unwrap_or_default().to_owned(),
        retry_after: retry_after.unwrap_or(0),
    })
}
