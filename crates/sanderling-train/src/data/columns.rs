//! Which column of a table means what.

use std::path::Path;

use sanderling_types::{Code, Error, Result};
use serde::{Deserialize, Serialize};

/// Names of columns that overrule what is recognised by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnMap {
    /// Column of the user (or session) id.
    pub user: Option<String>,
    /// Column of the item id, in interactions and in the catalogue.
    pub item: Option<String>,
    /// Column of the kind of interaction.
    pub kind: Option<String>,
    /// Column of the time.
    pub timestamp: Option<String>,
    /// Column of the weight, rating or quantity.
    pub value: Option<String>,
    /// Column of the split part.
    pub split: Option<String>,
    /// Columns of the context in which interactions happened, such as `country`; they keep their names.
    pub context: Vec<String>,
    /// Column of the item's title.
    pub title: Option<String>,
    /// Column of the item's categories.
    pub categories: Option<String>,
    /// Column of the item's price.
    pub price: Option<String>,
    /// Column of the time (or year) in which the item became available.
    pub published_at: Option<String>,
}

impl ColumnMap {
    /// Says that the table's column `column` holds `meaning`, one of the field names of this struct. There may be many of `context`.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for a meaning that does not exist.
    pub fn set(&mut self, meaning: &str, column: &str) -> Result<()> {
        let slot = match meaning {
            "user" | "user_id" => &mut self.user,
            "item" | "item_id" => &mut self.item,
            "kind" => &mut self.kind,
            "timestamp" => &mut self.timestamp,
            "value" => &mut self.value,
            "split" => &mut self.split,
            "context" => {
                self.context.push(column.to_owned());
                return Ok(());
            }
            "title" => &mut self.title,
            "categories" => &mut self.categories,
            "price" => &mut self.price,
            "published_at" => &mut self.published_at,
            _ => {
                return Err(Error::new(Code::InvalidArgument, "there is no such column meaning")
                    .expected(
                        "user, item, kind, timestamp, value, split, context, title, categories, price or published_at",
                    )
                    .found(meaning));
            }
        };
        *slot = Some(column.to_owned());
        Ok(())
    }
}

/// Names that mean a user etc., compared without case and punctuation; the first that occurs wins.
mod names {
    pub(super) const USER: &[&str] = &[
        "userid",
        "user",
        "uid",
        "sessionid",
        "session",
        "visitorid",
        "visitor",
        "customerid",
        "customer",
        "reviewerid",
        "memberid",
        "accountid",
        "clientid",
    ];
    pub(super) const ITEM: &[&str] = &[
        "itemid",
        "item",
        "iid",
        "movieid",
        "movie",
        "productid",
        "product",
        "asin",
        "parentasin",
        "sku",
        "articleid",
        "article",
        "trackid",
        "songid",
        "bookid",
        "isbn",
        "videoid",
        "contentid",
        "newsid",
        "goodsid",
        "businessid",
        "id",
    ];
    pub(super) const KIND: &[&str] = &[
        "kind",
        "event",
        "eventtype",
        "eventname",
        "action",
        "type",
        "interaction",
        "behavior",
        "behaviour",
    ];
    pub(super) const TIMESTAMP: &[&str] = &[
        "timestamp",
        "ts",
        "time",
        "datetime",
        "unixtime",
        "unixtimestamp",
        "eventtime",
        "eventtimestamp",
        "createdat",
        "occurredat",
        "unixreviewtime",
        "date",
    ];
    pub(super) const VALUE: &[&str] =
        &["value", "rating", "score", "stars", "overall", "weight", "quantity", "qty", "count"];
    pub(super) const SPLIT: &[&str] = &["split", "splitpart", "fold", "part", "subset"];
    pub(super) const TITLE: &[&str] =
        &["title", "name", "movietitle", "itemtitle", "itemname", "producttitle", "productname"];
    pub(super) const CATEGORIES: &[&str] = &["categories", "category", "genres", "genre", "class", "tags"];
    pub(super) const PRICE: &[&str] = &["price", "listprice"];
    pub(super) const PUBLISHED_AT: &[&str] =
        &["publishedat", "published", "availablefrom", "createdat", "releasedate", "releaseyear", "year"];
}

/// `userId:token` → `userid`: without type suffix, case and punctuation.
fn normalised(name: &str) -> String {
    let name = name.split(':').next().unwrap_or_default();
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Finds columns in a header.
struct Finder<'a> {
    columns: &'a [String],
    path: &'a Path,
}

impl Finder<'_> {
    /// The stated column, else the first that is known by name.
    fn find(&self, stated: Option<&String>, known: &[&str]) -> Result<Option<usize>> {
        if let Some(stated) = stated {
            let exact = self.columns.iter().position(|column| column == stated);
            let found = exact.or_else(|| {
                self.columns.iter().position(|column| column.split(':').next() == Some(stated.as_str()))
            });
            return found.map(Some).ok_or_else(|| self.missing(stated));
        }
        let normal: Vec<String> = self.columns.iter().map(|column| normalised(column)).collect();
        Ok(known.iter().find_map(|known| normal.iter().position(|name| name == known)))
    }

    fn require(&self, stated: Option<&String>, known: &[&str], name: &str) -> Result<usize> {
        self.find(stated, known)?.ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> Error {
        Error::new(Code::ColumnMissing, format!("{} line 1: column `{name}` is missing", self.path.display()))
            .expected(format!("a column `{name}`"))
            .found(self.columns.join(", "))
            .hint("add the column, or say which one it is in the column mapping")
    }
}

/// Where the fields of an interaction are in a row.
#[derive(Debug, Clone)]
pub(crate) struct InteractionColumns {
    pub(crate) user: usize,
    pub(crate) item: usize,
    pub(crate) kind: Option<usize>,
    pub(crate) timestamp: Option<usize>,
    pub(crate) value: Option<usize>,
    pub(crate) split: Option<usize>,
    /// One for each of [`ColumnMap::context`].
    pub(crate) context: Vec<usize>,
    /// Kind of the rows that state none.
    pub(crate) default_kind: &'static str,
}

impl InteractionColumns {
    pub(crate) fn find(columns: &[String], map: &ColumnMap, path: &Path) -> Result<Self> {
        let finder = Finder { columns, path };
        let user = finder.require(map.user.as_ref(), names::USER, "user_id")?;
        let item = finder.require(map.item.as_ref(), names::ITEM, "item_id")?;
        let value = finder.find(map.value.as_ref(), names::VALUE)?;
        let is_rating = value
            .is_some_and(|at| matches!(normalised(&columns[at]).as_str(), "rating" | "stars" | "overall"));
        Ok(Self {
            user,
            item,
            kind: finder.find(map.kind.as_ref(), names::KIND)?,
            timestamp: finder.find(map.timestamp.as_ref(), names::TIMESTAMP)?,
            value,
            split: finder.find(map.split.as_ref(), names::SPLIT)?,
            context: map
                .context
                .iter()
                .map(|key| finder.require(Some(key), &[], key))
                .collect::<Result<_>>()?,
            default_kind: if is_rating { "rating" } else { "view" },
        })
    }

    /// The mapping that was used, for people: `user=userId, item=movieId, …`.
    pub(crate) fn describe(&self, columns: &[String]) -> Vec<(String, String)> {
        [
            ("user", Some(self.user)),
            ("item", Some(self.item)),
            ("kind", self.kind),
            ("timestamp", self.timestamp),
            ("value", self.value),
            ("split", self.split),
        ]
        .into_iter()
        .chain(self.context.iter().map(|at| ("context", Some(*at))))
        .filter_map(|(name, at)| Some((name.to_owned(), columns.get(at?)?.clone())))
        .collect()
    }
}

/// Where the fields of an item are in a row.
#[derive(Debug, Clone)]
pub(crate) struct ItemColumns {
    pub(crate) item: usize,
    pub(crate) title: Option<usize>,
    pub(crate) categories: Option<usize>,
    /// Whether categories are separated by spaces, as in columns of type `token_seq`.
    pub(crate) categories_by_space: bool,
    pub(crate) price: Option<usize>,
    pub(crate) published_at: Option<usize>,
    /// Whether the column of `published_at` holds years.
    pub(crate) published_in_years: bool,
    /// Every other column, and the one with years: attribute name and place.
    pub(crate) attributes: Vec<(String, usize)>,
}

impl ItemColumns {
    pub(crate) fn find(columns: &[String], map: &ColumnMap, path: &Path) -> Result<Self> {
        let finder = Finder { columns, path };
        // A mapping made for the interactions may name an item column that the catalogue calls otherwise.
        let stated = map.item.as_ref().filter(|stated| columns.contains(stated));
        let item = finder.require(stated, names::ITEM, "item_id")?;
        let title = finder.find(map.title.as_ref(), names::TITLE)?;
        let categories = finder.find(map.categories.as_ref(), names::CATEGORIES)?;
        let price = finder.find(map.price.as_ref(), names::PRICE)?;
        let published_at = finder.find(map.published_at.as_ref(), names::PUBLISHED_AT)?;
        let is_year = |at: usize| normalised(&columns[at]).ends_with("year");
        let used = [Some(item), title, categories, price, published_at.filter(|at| !is_year(*at))];
        let by_space = |at: usize| columns[at].ends_with(":token_seq");
        let attribute_name = |name: &String| name.split(':').next().unwrap_or_default().to_owned();
        Ok(Self {
            item,
            title,
            categories,
            categories_by_space: categories.is_some_and(by_space),
            price,
            published_at,
            published_in_years: published_at.is_some_and(is_year),
            attributes: columns
                .iter()
                .enumerate()
                .filter(|(at, name)| !name.is_empty() && !used.contains(&Some(*at)))
                .map(|(at, name)| (attribute_name(name), at))
                .collect(),
        })
    }
}
