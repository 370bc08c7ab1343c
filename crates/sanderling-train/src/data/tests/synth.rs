use std::collections::{BTreeMap, HashMap};

use crate::data::{Dataset, Row, SynthConfig, World, synth};

fn config() -> SynthConfig {
    SynthConfig::default()
}

fn small(days: u32) -> SynthConfig {
    SynthConfig { num_users: 300, days, ..config() }
}

/// Counts of what follows what, from which hit rates are measured.
#[derive(Default)]
struct Follows(HashMap<String, HashMap<String, u32>>);

impl Follows {
    fn add(&mut self, key: String, next: &str) {
        *self.0.entry(key).or_default().entry(next.to_owned()).or_default() += 1;
    }

    /// The ten most frequent followers of every key, ties by id.
    fn tops(&self) -> HashMap<&str, Vec<String>> {
        let top = |counts: &HashMap<String, u32>| -> Vec<String> {
            let mut order: Vec<(u32, &String)> = counts.iter().map(|(item, count)| (*count, item)).collect();
            order.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
            order.into_iter().take(10).map(|(_, item)| item.clone()).collect()
        };
        self.0.iter().map(|(key, counts)| (key.as_str(), top(counts))).collect()
    }
}

/// Category pairs of (the one before the last, the last), last item, next item, inside visits.
fn steps<'a>(
    data: &'a Dataset,
    categories: &'a BTreeMap<&'a str, &'a str>,
) -> impl Iterator<Item = (bool, &'a str, &'a str)> {
    let users = 0..data.interactions.users().len() as u32;
    users.flat_map(move |user| {
        let rows: Vec<Row<'_>> = data.interactions.of_user(user).collect();
        let visits = rows.chunk_by(|a, b| b.timestamp - a.timestamp < 3_600);
        let in_visit = |visit: &[Row<'a>]| -> Vec<(bool, &'a str, &'a str)> {
            let item = |at: usize| visit[at].item_id;
            let same = |at: usize| at >= 2 && categories[item(at - 2)] == categories[item(at - 1)];
            (1..visit.len()).map(|at| (same(at), item(at - 1), item(at))).collect()
        };
        visits.flat_map(in_visit).collect::<Vec<_>>()
    })
}

/// Hit rate among ten on the last week: of popularity, of the last item, of the last item and the mode.
fn hit_rates(world: &World, train_end: u32, test_end: u32) -> [f64; 3] {
    let (train, test) = (world.dataset(0, train_end).unwrap(), world.dataset(train_end, test_end).unwrap());
    let catalogue = world.items(test_end);
    let categories: BTreeMap<&str, &str> =
        catalogue.iter().map(|item| (item.item_id.as_str(), item.categories[0].as_str())).collect();
    let (mut popular, mut markov, mut moded) = (Follows::default(), Follows::default(), Follows::default());
    for (same, last, next) in steps(&train, &categories) {
        popular.add(String::new(), next);
        markov.add(last.to_owned(), next);
        moded.add(format!("{same} {last}"), next);
    }
    let tops = [popular.tops(), markov.tops(), moded.tops()];
    let mut hits = [0_u32; 3];
    let mut cases = 0_u32;
    for (same, last, next) in steps(&test, &categories) {
        cases += 1;
        for ((hit, tops), key) in hits.iter_mut().zip(&tops).zip(["", last, &format!("{same} {last}")]) {
            *hit += u32::from(tops.get(key).is_some_and(|list| list.iter().any(|item| item == next)));
        }
    }
    hits.map(|hit| f64::from(hit) / f64::from(cases))
}

#[test]
fn the_default_world_has_the_promised_size_and_structure() {
    let start = std::time::Instant::now();
    let world = synth(&config());
    let seconds = start.elapsed().as_secs_f64();
    let data = world.dataset(0, 60).unwrap();
    let counts = data.counts();
    assert!((950..1_050).contains(&counts.items), "{counts:?}");
    assert!((2_700..=3_000).contains(&counts.users), "{counts:?}");
    assert!((100_000..150_000).contains(&counts.interactions), "{counts:?}");
    assert!(seconds < 20.0, "about one second on an idle machine, {seconds} here");
    let [popular, markov, moded] = hit_rates(&world, 53, 60);
    assert!(markov > 4.0 * popular, "the last item must tell far more than popularity: {markov} {popular}");
    assert!(
        moded > 1.05 * markov,
        "what came before the last item must tell something, too: {moded} {markov}"
    );
    assert!(markov < 0.6, "the last item must not tell everything: {markov}");
    let mut popularity: HashMap<&str, u32> = HashMap::new();
    data.interactions.iter().for_each(|row| *popularity.entry(row.item_id).or_default() += 1);
    let mut popularity: Vec<u32> = popularity.into_values().collect();
    popularity.sort_unstable_by(|a, b| b.cmp(a));
    let head: u32 = popularity[..popularity.len() / 10].iter().sum();
    let share = f64::from(head) / counts.interactions as f64;
    assert!((0.2..0.6).contains(&share), "{share}");
}

#[test]
fn a_longer_world_begins_with_the_same_days() {
    let short = synth(&small(20));
    let long = synth(&small(30));
    assert_eq!(short.dataset(0, 20).unwrap(), long.dataset(0, 20).unwrap());
    assert_eq!(short.truth().days, long.truth().days[..20]);
    assert_eq!(short.device_days(5, 20), long.device_days(5, 20));
    assert_ne!(
        long.dataset(0, 20).unwrap(),
        synth(&SynthConfig { seed: 2, ..small(20) }).dataset(0, 20).unwrap()
    );
    assert!(long.items(30).len() > long.items(0).len(), "new items appear");
    let parts =
        long.dataset(0, 10).unwrap().interactions.len() + long.dataset(10, 30).unwrap().interactions.len();
    assert_eq!(parts, long.dataset(0, 30).unwrap().interactions.len());
}

#[test]
fn worlds_with_and_without_drift_part_at_the_drift() {
    let calm = synth(&SynthConfig { days: 74, ..config() });
    let moved = synth(&SynthConfig { days: 74, drift_day: Some(60), ..config() });
    assert_eq!(calm.dataset(0, 60).unwrap(), moved.dataset(0, 60).unwrap());
    assert_eq!((calm.truth().drifted_users, calm.truth().changed_subcategories), (0, 0));
    let truth = moved.truth();
    assert!(truth.drifted_users > 2_000 && truth.changed_subcategories > 30, "{truth:?}");
    assert_eq!(truth.days.iter().position(|day| day.drifted), Some(60));
    // Distance in category shares between the training days and the two weeks after them.
    let mean = |world: &World, days: std::ops::Range<usize>| -> Vec<f64> {
        let count = days.len() as f64;
        let days = &world.truth().days[days];
        (0..12).map(|at| days.iter().map(|day| day.interaction_shares[at]).sum::<f64>() / count).collect()
    };
    let psi = |world: &World| -> f64 {
        let shares = mean(world, 30..60).into_iter().zip(mean(world, 60..74));
        shares.map(|(before, after)| (after - before) * (after / before).ln()).sum()
    };
    assert!(psi(&calm) < 0.02, "{}", psi(&calm));
    assert!(psi(&moved) > 0.15, "{}", psi(&moved));
    let rising = |shares: &[f64]| truth.rising_categories.iter().map(|at| shares[*at as usize]).sum::<f64>();
    assert!(rising(&truth.days[60].taste_shares) > 1.8 * rising(&truth.days[59].taste_shares));
    // What was learned before the drift is worth less after it.
    let [_, before, _] = hit_rates(&calm, 60, 74);
    let [_, after, _] = hit_rates(&moved, 60, 74);
    assert!(after < 0.75 * before, "{after} after, {before} before");
}

#[test]
fn devices_replay_the_logs() {
    let world = synth(&small(12));
    let days = world.device_days(0, 12);
    assert!(days.is_sorted_by_key(|day| (day.day, day.user_id.clone())));
    let mut histories: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for day in &days {
        let history = histories.entry(day.user_id.as_str()).or_default();
        let known = &history[history.len().saturating_sub(synth::MAX_HISTORY)..];
        assert_eq!(day.history, known, "{} on day {}", day.user_id, day.day);
        assert!(!day.interactions.is_empty());
        let midnight = world.day_start(day.day);
        assert!(day.interactions.is_sorted_by_key(|interaction| interaction.timestamp));
        for interaction in &day.interactions {
            assert!((midnight..midnight + 86_400).contains(&interaction.timestamp), "{interaction:?}");
            assert!(history.iter().rev().take(50).all(|before| before.item_id != interaction.item_id));
            history.push(interaction.clone());
        }
    }
    let logged = world.dataset(0, 12).unwrap();
    assert_eq!(histories.values().map(Vec::len).sum::<usize>(), logged.interactions.len());
    for (user, id) in (0..).zip(logged.interactions.users().iter()) {
        let replayed = histories[id].iter().map(|row| row.item_id.as_str());
        assert!(replayed.eq(logged.interactions.of_user(user).map(|row| row.item_id)), "{id}");
    }
    assert_eq!(world.device_days(6, 12), days.into_iter().filter(|day| day.day >= 6).collect::<Vec<_>>());
}

#[test]
fn the_world_on_disk_is_sound_and_tells_its_truth() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("world");
    let world = synth(&SynthConfig { drift_day: Some(5), ..small(10) });
    world.write(&folder).unwrap();
    let data = Dataset::read(&folder).unwrap();
    assert_eq!(data, world.dataset(0, 10).unwrap());
    let titles: std::collections::BTreeSet<&str> =
        data.items.iter().map(|item| item.title.as_str()).collect();
    assert_eq!(titles.len(), data.items.len(), "titles are unique");
    let truth: synth::Truth =
        serde_json::from_slice(&std::fs::read(folder.join("truth.json")).unwrap()).unwrap();
    assert_eq!((truth.config.drift_day, truth.days.len(), truth.synthetic), (Some(5), 10, true));
    let first = world.dataset(0, 1).unwrap().interactions.timestamp(0);
    assert!((1_767_225_600..1_767_225_600 + 86_400).contains(&first));
    // The smallest and strangest settings still give a world.
    let tiny =
        SynthConfig { num_items: 0, num_users: 0, visits_per_day: 9.0, drift_strength: f64::MAX, ..small(3) };
    assert_eq!(synth(&tiny).config().num_users, 1);
}
