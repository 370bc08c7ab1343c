//! Item attributes as one JSON object: item id → list of attribute ids.

use std::{io::Read, path::Path};

use sanderling_types::{Code, Error, Item, ItemId, Result};
use serde_json::Value;

use crate::data::{
    source::{Source, io_error},
    table::cell_text,
};

/// Largest file after unpacking.
const MAX_BYTES: u64 = 1 << 28;

/// Reads the object in the order of ascending ids (numbers before text); attributes become categories.
pub(super) fn read(path: &Path) -> Result<Vec<Item>> {
    let mut bytes = Vec::new();
    let mut reader = Source::open(path)?.reader.take(MAX_BYTES);
    reader.read_to_end(&mut bytes).map_err(|error| io_error("read", path, error))?;
    let object: serde_json::Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| {
        Error::new(
            Code::DataInvalid,
            format!("{} line {}: not a JSON object of lists", path.display(), error.line()),
        )
        .expected("{\"item\": [attribute, …], …}")
        .found(&error)
    })?;
    let mut items = object.iter().map(|(id, value)| item(path, id, value)).collect::<Result<Vec<_>>>()?;
    items.sort_by_cached_key(|item| {
        let number = item.item_id.as_str().parse::<u64>().unwrap_or(u64::MAX);
        (number, item.item_id.clone())
    });
    Ok(items)
}

fn item(path: &Path, id: &str, value: &Value) -> Result<Item> {
    let Value::Array(attributes) = value else {
        return Err(Error::new(Code::DataInvalid, format!("{}: item `{id}` has no list", path.display()))
            .expected("a list of attribute ids")
            .found(value));
    };
    let categories = attributes.iter().map(|attribute| cell_text(Some(attribute)).into_owned());
    Ok(Item {
        item_id: ItemId::from(id),
        title: String::new(),
        categories: categories.collect(),
        price: None,
        published_at: None,
        attributes: std::collections::BTreeMap::new(),
    })
}
