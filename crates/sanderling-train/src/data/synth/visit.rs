//! One visit of one user: a walk from item to item.

use super::{
    Act, SECONDS_PER_DAY, SynthConfig,
    chance::Chance,
    people::{People, Person},
    shop::{Shop, ShopItem, Style, dot},
};

/// Probability that a visit stays in its mode at a step.
const MODE_STAYS: f64 = 0.92;
/// Probability that a step starts again from the user's taste.
const RESTART: f64 = 0.05;
/// Probability that the walk goes on after a step.
const GOES_ON: f64 = 0.80;
const MIN_STEPS: usize = 2;
const MAX_STEPS: usize = 20;
/// Weight of the user's style at a step of the walk, and at its start.
const TASTE: f64 = 1.3;
const TASTE_AT_START: f64 = 1.2;
/// Weight of the closeness to the last item, and to what goes with it.
const CLOSENESS: f64 = 6.0;
const COMPANIONSHIP: f64 = 6.0;

/// Where and when a walk takes place.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    pub(super) shop: &'a Shop,
    pub(super) config: &'a SynthConfig,
    pub(super) day: u32,
    pub(super) user: u32,
}

/// What a user is about during a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Looking at things of one category.
    Compare,
    /// Collecting what goes together.
    Kit,
}

impl Mode {
    fn draw(chance: &mut Chance) -> Self {
        if chance.happens(0.5) { Mode::Compare } else { Mode::Kit }
    }

    fn other(self) -> Self {
        match self {
            Mode::Compare => Mode::Kit,
            Mode::Kit => Mode::Compare,
        }
    }
}

impl Visit<'_> {
    /// Appends the acts of the visit and lets the user remember them.
    pub(super) fn walk(&self, people: &mut People, acts: &mut Vec<Act>) {
        let mut chance = people.chance(self.day, self.user, 1);
        let person = &mut people.persons[self.user as usize];
        person.move_taste(self.day, &mut chance);
        let mut timestamp =
            self.config.start_timestamp + i64::from(self.day) * SECONDS_PER_DAY + time_of_day(&mut chance);
        let mut taken = vec![false; self.shop.items.len()];
        person.recent.iter().for_each(|item| taken[*item as usize] = true);
        let mut mode = Mode::draw(&mut chance);
        let mut last: Option<&ShopItem> = None;
        for step in 0..MAX_STEPS {
            if chance.happens(1.0 - MODE_STAYS) {
                mode = mode.other();
            }
            if chance.happens(RESTART) {
                last = None;
            }
            let Some(item) = self.next_item(person, &taken, last, mode, &mut chance) else { break };
            let kind = chance.pick(&[0.86, 0.09, 0.05]).unwrap_or(0) as u8;
            acts.push(Act { day: self.day, user: self.user, item: item.number, kind, timestamp });
            person.remember(item.number);
            taken[item.number as usize] = true;
            timestamp += 15 + (150.0 * chance.unit() * chance.unit()) as i64;
            last = Some(item);
            if step + 1 >= MIN_STEPS && !chance.happens(GOES_ON) {
                break;
            }
        }
    }

    fn next_item(
        &self,
        person: &Person,
        taken: &[bool],
        last: Option<&ShopItem>,
        mode: Mode,
        chance: &mut Chance,
    ) -> Option<&ShopItem> {
        let (category, wanted) = match (last, mode) {
            (None, _) => (self.wanted_category(person, chance)?, None),
            (Some(last), Mode::Compare) => (last.category, Some((last.style, CLOSENESS))),
            (Some(last), Mode::Kit) => {
                let (category, style) = self.shop.goes_with(last);
                (category, Some((style, COMPANIONSHIP)))
            }
        };
        let numbers = &self.shop.by_category[category];
        let weights: Vec<f64> = numbers
            .iter()
            .map(|number| if taken[*number as usize] { 0.0 } else { self.weight(person, *number, wanted) })
            .collect();
        let at = chance.pick(&weights)?;
        self.shop.items.get(numbers[at] as usize)
    }

    fn wanted_category(&self, person: &Person, chance: &mut Chance) -> Option<usize> {
        let mut weights = person.category_weights();
        for (category, weight) in weights.iter_mut().enumerate() {
            *weight *= self.shop.season(category, self.day);
        }
        chance.pick(&weights)
    }

    /// How likely an item is taken; 0 when it does not exist yet.
    fn weight(&self, person: &Person, number: u32, wanted: Option<(Style, f64)>) -> f64 {
        let item = &self.shop.items[number as usize];
        let age_days = i64::from(self.day) - item.published_day;
        if age_days < 0 {
            return 0.0;
        }
        let news = 1.0 + 1.5 * (-(age_days as f64) / 5.0).exp();
        let taste = dot(&person.style, &item.style);
        match wanted {
            None => news * item.popularity * (TASTE_AT_START * taste).exp(),
            Some((style, weight)) => {
                news * item.popularity_at_step * (TASTE * taste + weight * dot(&style, &item.style)).exp()
            }
        }
    }
}

/// Seconds after midnight of the start of a visit: around noon or in the evening, and early enough that
/// every visit ends before midnight.
fn time_of_day(chance: &mut Chance) -> i64 {
    let (hour, spread) = if chance.happens(0.4) { (12.5, 2.0) } else { (19.5, 2.0) };
    ((hour + spread * chance.normal()).clamp(0.0, 22.5) * 3_600.0) as i64
}
