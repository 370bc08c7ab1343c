//! What is sold, and what goes with what.

use std::collections::{BTreeMap, HashSet};

use sanderling_types::Item;

use super::{
    SECONDS_PER_DAY, SynthConfig,
    chance::{Chance, Purpose},
    item_id,
    words::{ADJECTIVES, BRANDS, CATEGORIES, NUM_CATEGORIES, NUM_SUBCATEGORIES},
};

/// Dimensions of style.
pub const NUM_STYLES: usize = 8;

/// Subcategories of all categories.
pub(super) const NUM_GROUPS: usize = NUM_CATEGORIES * NUM_SUBCATEGORIES;

/// A direction in the space of styles.
pub(super) type Style = [f32; NUM_STYLES];

/// Days over which the items that exist at the beginning were published.
const PAST_DAYS: f64 = 400.0;
/// How far items lie from the style of their subcategory.
const STYLE_SPREAD: f64 = 0.8;
/// Exponent of the popularity's tail: the larger, the more equal.
const POPULARITY_TAIL: f64 = 1.5;
const MAX_POPULARITY: f64 = 40.0;
/// How popularity counts at a step, as an exponent.
const POPULARITY_AT_STEP: f64 = 0.6;

/// One item with what nobody sees.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ShopItem {
    pub(super) number: u32,
    pub(super) category: usize,
    /// Category and subcategory in one number.
    pub(super) group: usize,
    pub(super) style: Style,
    /// Weight among the items of its category, from 1.
    pub(super) popularity: f64,
    /// The popularity as it counts at a step of a walk, where closeness counts more.
    pub(super) popularity_at_step: f64,
    pub(super) published_day: i64,
    price: f32,
    brand: &'static str,
    title: String,
}

/// How a subcategory leads on to other things.
#[derive(Debug, Clone, PartialEq)]
struct GoesWith {
    category: usize,
    /// Dimension `i` of the wanted style is dimension `order[i]` of the item's, times `signs[i]`.
    order: Vec<usize>,
    signs: Vec<f32>,
}

/// Items and the rules between them.
#[derive(Debug, Clone)]
pub(super) struct Shop {
    pub(super) items: Vec<ShopItem>,
    /// Item numbers by category, ascending.
    pub(super) by_category: Vec<Vec<u32>>,
    goes_with: Vec<GoesWith>,
    /// Phases of the weekly and of the yearly season by category.
    phases: Vec<[f64; 2]>,
}

impl Shop {
    pub(super) fn new(config: &SynthConfig) -> Self {
        let mut rules = Chance::keyed(config.seed, Purpose::Rules, 0, 0);
        let centres: Vec<Style> = (0..NUM_GROUPS).map(|_| unit_style(|| rules.normal())).collect();
        let category_weights: Vec<f64> = (0..NUM_CATEGORIES).map(|_| (0.5 * rules.normal()).exp()).collect();
        let goes_with = (0..NUM_GROUPS).map(|group| GoesWith::draw(group, &mut rules)).collect();
        let turn = std::f64::consts::TAU;
        let phases = (0..NUM_CATEGORIES).map(|_| [turn * rules.unit(), turn * rules.unit()]).collect();
        let mut shop =
            Self { items: Vec::new(), by_category: vec![Vec::new(); NUM_CATEGORIES], goes_with, phases };
        let mut titles = HashSet::new();
        let mut add = |published_day: Option<i64>| {
            let item =
                draw_item(config.seed, shop.items.len() as u32, published_day, &centres, &category_weights);
            let item = ShopItem { title: unique_title(&item, config.seed, &mut titles), ..item };
            shop.by_category[item.category].push(item.number);
            shop.items.push(item);
        };
        (0..config.num_items).for_each(|_| add(None));
        for day in 0..config.days {
            let until = |day: u32| (f64::from(day) * config.new_items_per_day).floor() as u32;
            (until(day)..until(day + 1)).for_each(|_| add(Some(i64::from(day))));
        }
        shop
    }

    /// The category and the style that go with an item.
    pub(super) fn goes_with(&self, item: &ShopItem) -> (usize, Style) {
        let rule = &self.goes_with[item.group];
        (rule.category, std::array::from_fn(|i| item.style[rule.order[i]] * rule.signs[i]))
    }

    /// How much more than usual a category is wanted on a day; around 1.
    pub(super) fn season(&self, category: usize, day: u32) -> f64 {
        let turns = |days: f64| std::f64::consts::TAU * f64::from(day) / days;
        let [week, year] = self.phases[category];
        1.0 + 0.12 * (turns(7.0) + week).sin() + 0.18 * (turns(365.25) + year).sin()
    }

    /// Gives about `strength` of the subcategories other companions; says how many.
    pub(super) fn drift(&mut self, seed: u64, strength: f64) -> u32 {
        let mut changed = 0;
        for (group, rule) in self.goes_with.iter_mut().enumerate() {
            let mut chance = Chance::keyed(seed, Purpose::DriftRules, group as u32, 0);
            if chance.happens(strength) {
                let mut new = GoesWith::draw(group, &mut chance);
                while new.category == rule.category {
                    new = GoesWith::draw(group, &mut chance);
                }
                *rule = new;
                changed += 1;
            }
        }
        changed
    }
}

impl GoesWith {
    /// A rule that leads to another category than the subcategory's own.
    fn draw(group: usize, chance: &mut Chance) -> Self {
        let step = 1 + chance.below(NUM_CATEGORIES - 1);
        Self {
            category: (group / NUM_SUBCATEGORIES + step) % NUM_CATEGORIES,
            order: chance.permutation(NUM_STYLES),
            signs: (0..NUM_STYLES).map(|_| if chance.happens(0.5) { 1.0 } else { -1.0 }).collect(),
        }
    }
}

impl ShopItem {
    /// The item as the catalogue shows it.
    pub(super) fn catalogue_entry(&self, start_timestamp: i64) -> Item {
        let (category, _, subcategories) = CATEGORIES[self.category];
        Item {
            item_id: item_id(self.number),
            title: self.title.clone(),
            categories: vec![category.to_owned(), subcategories[self.group % NUM_SUBCATEGORIES].to_owned()],
            price: Some(self.price),
            published_at: Some(start_timestamp + self.published_day * SECONDS_PER_DAY),
            attributes: BTreeMap::from([("brand".to_owned(), self.brand.to_owned())]),
        }
    }
}

fn draw_item(
    seed: u64,
    number: u32,
    published_day: Option<i64>,
    centres: &[Style],
    category_weights: &[f64],
) -> ShopItem {
    let mut chance = Chance::keyed(seed, Purpose::Item, number, 0);
    let category = chance.pick(category_weights).unwrap_or(0);
    let group = category * NUM_SUBCATEGORIES + chance.below(NUM_SUBCATEGORIES);
    let mut around = centres[group].iter();
    let spread = STYLE_SPREAD / (NUM_STYLES as f64).sqrt();
    let style =
        unit_style(|| around.next().map_or(0.0, |centre| f64::from(*centre)) + spread * chance.normal());
    let popularity = (1.0 - chance.unit()).powf(-1.0 / POPULARITY_TAIL).min(MAX_POPULARITY);
    // Dimension 0 is what costs: dear things appeal to those who like it.
    let price = CATEGORIES[category].1 * (0.35 * chance.normal() + 0.6 * f64::from(style[0])).exp();
    let age_days = (PAST_DAYS * chance.unit()) as i64;
    ShopItem {
        number,
        category,
        group,
        style,
        popularity,
        popularity_at_step: popularity.powf(POPULARITY_AT_STEP),
        published_day: published_day.unwrap_or(-1 - age_days),
        price: ((price * 2.0).round() / 2.0).max(1.0) as f32,
        brand: BRANDS[chance.below(BRANDS.len())],
        title: String::new(),
    }
}

fn unique_title(item: &ShopItem, seed: u64, taken: &mut HashSet<String>) -> String {
    let mut chance = Chance::keyed(seed, Purpose::Item, item.number, 1);
    let noun = CATEGORIES[item.category].2[item.group % NUM_SUBCATEGORIES];
    let mut title = format!("{} {} {noun}", item.brand, ADJECTIVES[chance.below(ADJECTIVES.len())]);
    let mut edition = 2;
    while !taken.insert(title.clone()) {
        title = if edition < 8 {
            format!("{} {} {noun}", item.brand, ADJECTIVES[chance.below(ADJECTIVES.len())])
        } else {
            format!("{} {noun} No. {edition}", item.brand)
        };
        edition += 1;
    }
    title
}

/// A vector of length 1.
fn unit_style(mut next: impl FnMut() -> f64) -> Style {
    let raw: [f64; NUM_STYLES] = std::array::from_fn(|_| next());
    let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-9);
    raw.map(|x| (x / length) as f32)
}

/// Inner product of two styles.
pub(super) fn dot(a: &Style, b: &Style) -> f64 {
    f64::from(a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>())
}
