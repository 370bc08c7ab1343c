//! The files that MovieLens itself publishes: `ratings.csv`, `ratings.dat` and `u.data`.

use std::{collections::BTreeMap, path::Path};

use sanderling_types::{Item, ItemId, Result, TimeKind};

use super::{
    ImportOptions, Imported, Progress,
    lines::{Lines, empty},
    optional, required,
};
use crate::data::{
    intake::Intake,
    interactions::Row,
    progress::EVERY_ROWS,
    source::plain_name,
    table,
    time::{self, TimeUnit, year_start},
};

/// Genres of `u.item` in the order of its flags, for folders without `u.genre`.
const GENRES: [&str; 19] = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
];
/// Fields of `u.item` before the flags: id, title, release date, video release date, address.
const FIELDS_BEFORE_FLAGS: usize = 5;

/// Detects the release by its file names and reads ratings and movies.
pub(super) fn import(
    path: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Imported> {
    let ratings = required(path, &["ratings.csv", "ratings.dat", "u.data"])?;
    let kind = options.kind.as_deref().unwrap_or("rating");
    let (separator, has_header) = match plain_name(&ratings).rsplit_once('.').map(|(_, ending)| ending) {
        Some("dat") => ("::", false),
        Some("data" | "base" | "test") => ("\t", false),
        _ => (",", true),
    };
    let intake = read_ratings(&ratings, separator, has_header, kind, progress)?;
    let mut files = vec![ratings];
    let mut items = Vec::new();
    if let Some(movies) = optional(path, &["movies.csv", "movies.dat", "u.item"]) {
        items = match plain_name(&movies).as_str() {
            "movies.csv" => read_movies_csv(&movies)?,
            "movies.dat" => read_movies_dat(&movies)?,
            _ => read_u_item(&movies, &genres(path)?)?,
        };
        files.push(movies);
    }
    Ok(Imported::new(intake, items, TimeKind::UnixSeconds, files, progress))
}

/// `user SEP item SEP rating SEP timestamp`.
fn read_ratings(
    path: &Path,
    separator: &str,
    has_header: bool,
    kind: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<Intake> {
    let mut lines = Lines::open(path)?;
    let mut intake = Intake::default();
    let mut skip_header = has_header;
    while let Some((line, text)) = lines.next()? {
        if std::mem::take(&mut skip_header) && text.starts_with("userId") {
            continue;
        }
        let row = parse_rating(text, separator, kind);
        let row = row.map_err(|(what, found)| {
            super::lines::invalid(path, line, "the rating cannot be read", what, &found)
        })?;
        intake.push(row)?;
        if intake.len().is_multiple_of(EVERY_ROWS) {
            progress(lines.progress(intake.len()));
        }
    }
    if intake.len() == 0 {
        return Err(empty(path));
    }
    Ok(intake)
}

fn parse_rating<'a>(
    text: &'a str,
    separator: &str,
    kind: &'a str,
) -> Result<Row<'a>, (&'static str, String)> {
    let fields: Vec<&str> = text.split(separator).map(str::trim).collect();
    let [user_id, item_id, rating, timestamp] = fields[..] else {
        return Err(("user, item, rating and timestamp", format!("{} fields", fields.len())));
    };
    if user_id.is_empty() || item_id.is_empty() {
        return Err(("a user id and an item id", String::new()));
    }
    let value = rating.parse::<f32>().ok().filter(|rating| rating.is_finite());
    Ok(Row {
        user_id,
        item_id,
        kind,
        timestamp: time::parse(timestamp, TimeUnit::Seconds).ok_or(("Unix seconds", timestamp.to_owned()))?,
        value: Some(value.ok_or(("a finite rating", rating.to_owned()))?),
        split: None,
    })
}

/// `movieId,title,genres` with quoted titles.
fn read_movies_csv(path: &Path) -> Result<Vec<Item>> {
    let mut rows = table::open(path, Some(b','))?;
    let mut record = csv::StringRecord::new();
    let mut items = Vec::new();
    loop {
        match rows.next_row(&mut record) {
            Ok(None) => return Ok(items),
            Err(error) => return Err(error.into_error(path)),
            Ok(Some(line)) if record.len() < 3 => {
                return Err(short_row(path, line, "movieId, title and genres", record.len()));
            }
            Ok(Some(_)) => items.push(movie(&record[0], &record[1], genre_list(&record[2]))),
        }
    }
}

/// `movieId::title::genres`.
fn read_movies_dat(path: &Path) -> Result<Vec<Item>> {
    let mut lines = Lines::open(path)?;
    let mut items = Vec::new();
    while let Some((line, text)) = lines.next()? {
        let fields: Vec<&str> = text.split("::").collect();
        let [id, title, genres] = fields[..] else {
            return Err(short_row(path, line, "movie, title and genres", fields.len()));
        };
        items.push(movie(id, title, genre_list(genres)));
    }
    Ok(items)
}

/// `id|title|release|video release|address|flag|flag|…`.
fn read_u_item(path: &Path, genres: &[String]) -> Result<Vec<Item>> {
    let mut lines = Lines::open(path)?;
    let mut items = Vec::new();
    while let Some((line, text)) = lines.next()? {
        let fields: Vec<&str> = text.split('|').collect();
        if fields.len() <= FIELDS_BEFORE_FLAGS {
            return Err(short_row(path, line, "at least 6 fields", fields.len()));
        }
        let set = genres.iter().zip(&fields[FIELDS_BEFORE_FLAGS..]).filter(|(_, flag)| **flag == "1");
        items.push(movie(fields[0], fields[1], set.map(|(genre, _)| genre.clone()).collect()));
    }
    Ok(items)
}

fn short_row(path: &Path, line: u64, expected: &str, found: usize) -> sanderling_types::Error {
    super::lines::invalid(path, line, "the movie cannot be read", expected, &format!("{found} fields"))
}

/// Genre names of `u.genre` (`name|number`) in the order of their numbers, where the folder has it.
fn genres(path: &Path) -> Result<Vec<String>> {
    let Some(file) = optional(path, &["u.genre"]) else {
        return Ok(GENRES.iter().map(|genre| (*genre).to_owned()).collect());
    };
    let mut lines = Lines::open(&file)?;
    let mut names = BTreeMap::new();
    while let Some((line, text)) = lines.next()? {
        let parsed =
            text.split_once('|').and_then(|(name, number)| Some((number.trim().parse::<u32>().ok()?, name)));
        let Some((number, name)) = parsed else {
            return Err(super::lines::invalid(&file, line, "the genre cannot be read", "name|number", text));
        };
        names.insert(number, name.to_owned());
    }
    Ok(names.into_values().collect())
}

fn genre_list(text: &str) -> Vec<String> {
    let genres = text.split('|').map(str::trim);
    genres.filter(|genre| !genre.is_empty() && *genre != "(no genres listed)").map(str::to_owned).collect()
}

/// An item whose availability is the year that ends the title, as in `Heat (1995)`.
fn movie(id: &str, title: &str, categories: Vec<String>) -> Item {
    let year = title.trim_end().strip_suffix(')').and_then(|title| title.rsplit_once('('));
    let year = year
        .and_then(|(_, year)| year.trim().get(..4)?.parse::<i64>().ok())
        .filter(|year| (1800..2200).contains(year));
    Item {
        item_id: ItemId::from(id.trim()),
        title: title.trim().to_owned(),
        categories,
        price: None,
        published_at: year.map(year_start),
        attributes: year.map(|year| ("release_year".to_owned(), year.to_string())).into_iter().collect(),
    }
}
