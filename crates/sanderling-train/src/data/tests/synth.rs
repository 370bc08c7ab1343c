use std::collections::{BTreeMap, HashMap};

use sanderling_types::Interaction;

use crate::data::{Dataset, SynthConfig, World, synth};

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

    /// The ten most frequent followers, ties by id.
    fn top(&self, key: &str) -> Vec<&str> {
        let Some(counts) = self.0.get(key) else { return Vec::new() };
        let mut order: Vec<(u32, &str)> =
            counts.iter().map(|(item, count)| (*count, item.as_str())).collect();
        order.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        order.into_iter().take(10).map(|(_, item)| item).collect()
    }
}

/// Category pairs of (the one before the last, the last), last item, next item, inside visits.
fn steps<'a>(
    data: &'a Dataset,
    categories: &'a BTreeMap<&'a str, &'a str>,
) -> impl Iterator<Item = (bool, &'a str, &'a str)> {
    let visits = |rows: &'a [Interaction]| rows.chunk_by(|a, b| b.timestamp - a.timestamp < 3_600);
    data.users().flat_map(move |(_, rows)| visits(rows)).flat_map(move |visit| {
        (1..visit.len()).map(move |at| {
            let item = |at: usize| visit[at].item_id.as_str();
            let same = at >= 2 && categories[item(at - 2)] == categories[item(at - 1)];
            (same, item(at - 1), item(at))
        })
    })
}

/// Hit rate among ten on the last week: of popularity, of the last item, of the last item and the mode.
fn hit_rates(world: &World, train_end: u32, test_end: u32) -> [f64; 3] {
    let (train, test) = (world.dataset(0, train_end), world.dataset(train_end, test_end));
    let catalogue = world.items(test_end);
    let categories: BTreeMap<&str, &str> =
        catalogue.iter().map(|item| (item.item_id.as_str(), item.categories[0].as_str())).collect();
    let (mut popular, mut markov, mut moded) = (Follows::default(), Follows::default(), Follows::default());
    for (same, last, next) in steps(&train, &categories) {
        popular.add(String::new(), next);
        markov.add(last.to_owned(), next);
        moded.add(format!("{same} {last}"), next);
    }
    let mut hits = [0_u32; 3];
    let mut cases = 0_u32;
    for (same, last, next) in steps(&test, &categories) {
        cases += 1;
        for (hit, list) in
            hits.iter_mut().zip([popular.top(""), markov.top(last), moded.top(&format!("{same} {last}"))])
        {
            *hit += u32::from(list.contains(&next));
        }
    }
    hits.map(|hit| f64::from(hit) / f64::from(cases))
}

#[test]
fn the_default_world_has_the_promised_size_and_structure() {
    let start = std::time::Instant::now();
    let world = synth(&config());
    let seconds = start.elapsed().as_secs_f64();
    let data = world.dataset(0, 60);
    let counts = data.counts();
    eprintln!("{counts:?} in {seconds} s");
    assert!((950..1_050).contains(&counts.items), "{counts:?}");
    assert!((2_700..=3_000).contains(&counts.users), "{counts:?}");
    assert!((100_000..150_000).contains(&counts.interactions), "{counts:?}");
    assert!(seconds < 20.0, "about one second on an idle machine, {seconds} here");
    let [popular, markov, moded] = hit_rates(&world, 53, 60);
    eprintln!("hit rate @10: popular {popular:.3}, last item {markov:.3}, last item and mode {moded:.3}");
    assert!(markov > 4.0 * popular, "the last item must tell far more than popularity");
    assert!(moded > 1.1 * markov, "what came before the last item must tell something, too");
    assert!(markov < 0.6, "the last item must not tell everything");
    let mut popularity: HashMap<&str, u32> = HashMap::new();
    data.interactions.iter().for_each(|row| *popularity.entry(row.item_id.as_str()).or_default() += 1);
    let mut popularity: Vec<u32> = popularity.into_values().collect();
    popularity.sort_unstable_by(|a, b| b.cmp(a));
    let head: u32 = popularity[..popularity.len() / 10].iter().sum();
    let share = f64::from(head) / counts.interactions as f64;
    eprintln!("share of the most popular tenth: {share:.3}");
    assert!((0.2..0.6).contains(&share), "{share}");
}
