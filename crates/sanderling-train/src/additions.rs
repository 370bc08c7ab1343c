//! Adding items to a bundle without training: their vectors come from their attributes.

use std::collections::BTreeSet;

use sanderling_core::{Bundle, BundleFiles, ItemTable, NeighbourTable};
use sanderling_types::{Code, Error, FileEntry, FileRole, Item, ItemId, Manifest, Result, Vocabulary};

use crate::card::note_of_additions;
use crate::content::Content;
use crate::split::too_many_categories;

/// A bundle with more items.
#[derive(Debug)]
pub struct Added {
    /// All files, manifest included; unsigned.
    pub files: BundleFiles,
    /// The manifest: the next version, with the old bundle as its parent.
    pub manifest: Manifest,
    /// Items that are new in it.
    pub added: Vec<ItemId>,
    /// Items that the bundle knew before; nothing about them changes.
    pub known: Vec<ItemId>,
    /// Items that share no attribute with any trained item, so that nothing can be said about them.
    pub unplaced: Vec<ItemId>,
}

/// Puts `items` behind those of a bundle, each with the vector that its attributes give it.
///
/// Rows of known items do not move, so sessions, baseline and drift windows stay comparable. Metrics and baseline
/// stay those that the parent was measured with; the card says so.
///
/// # Errors
/// What [`Bundle::open`] says; [`Code::InvalidArgument`] when the bundle was trained without attributes;
/// [`Code::ContentInvalid`]; [`Code::LimitExceeded`] for more than [`Vocabulary::MAX_CATEGORIES`] categories.
pub fn add_items(files: &BundleFiles, items: &[Item]) -> Result<Added> {
    let bundle = Bundle::open(files.clone(), None)?;
    let old = bundle.manifest();
    let content = read_content(files, old)?;
    let mut vocabulary = bundle.vocabulary().unpack();
    let mut vectors = Vec::new();
    let (mut added, mut known, mut unplaced) = (Vec::new(), Vec::new(), Vec::new());
    let mut ids: BTreeSet<ItemId> = vocabulary.item_ids.iter().cloned().collect();
    for item in items {
        let id = item.item_id.clone();
        if ids.contains(&id) {
            known.push(id);
            continue;
        }
        match content.vector(item) {
            Some(vector) => {
                vectors.extend(vector);
                push(&mut vocabulary, item)?;
                ids.insert(id.clone());
                added.push(id);
            }
            None => unplaced.push(id),
        }
    }
    let mut table = ItemTable::decode(part(files, old, FileRole::Items)?)?;
    table.append(&vectors)?;
    let mut manifest = old.clone();
    manifest.shapes.num_items = table.len() as u32;
    manifest.parent = Some(old.bundle_hash());
    manifest.version += 1;
    let mut files = files.clone();
    files.remove(Manifest::SIGNATURE_FILE_NAME);
    replace(&mut files, &mut manifest, FileRole::Items, table.encode());
    replace(&mut files, &mut manifest, FileRole::Vocabulary, vocabulary.encode()?);
    if manifest.files.contains_key(&FileRole::Neighbours) {
        let mut neighbours = NeighbourTable::decode(part(&files, old, FileRole::Neighbours)?)?;
        neighbours.append_empty(added.len())?;
        replace(&mut files, &mut manifest, FileRole::Neighbours, neighbours.encode());
    }
    let mut card = part(&files, old, FileRole::Card)?.to_vec();
    card.extend(note_of_additions(added.len(), manifest.version).into_bytes());
    replace(&mut files, &mut manifest, FileRole::Card, card);
    files.insert(Manifest::FILE_NAME, manifest.encode());
    Bundle::open(files.clone(), None)?;
    Ok(Added { files, manifest, added, known, unplaced })
}

fn part<'a>(files: &'a BundleFiles, manifest: &Manifest, role: FileRole) -> Result<&'a [u8]> {
    let path = &manifest.file(role)?.path;
    files.get(path).ok_or_else(|| Error::new(Code::FileMissing, format!("{path} was not supplied")))
}

fn read_content(files: &BundleFiles, manifest: &Manifest) -> Result<Content> {
    if !manifest.files.contains_key(&FileRole::Content) {
        return Err(Error::new(Code::InvalidArgument, "the bundle says nothing about attributes of items")
            .expected("a file content.bin")
            .hint("train with a catalogue whose items have categories, titles or other attributes"));
    }
    let content = Content::decode(part(files, manifest, FileRole::Content)?)?;
    if content.table.dim() != manifest.shapes.dim as usize {
        return Err(Error::new(Code::ContentInvalid, "content.bin has vectors of another length")
            .expected(manifest.shapes.dim)
            .found(content.table.dim()));
    }
    Ok(content)
}

fn replace(files: &mut BundleFiles, manifest: &mut Manifest, role: FileRole, bytes: Vec<u8>) {
    let path = role.file_name().to_owned();
    let entry = FileEntry::of(path.clone(), &bytes);
    manifest.files.insert(role, entry);
    files.insert(path, bytes);
}

/// Puts an item without interactions behind the others.
fn push(vocabulary: &mut Vocabulary, item: &Item) -> Result<()> {
    let before = vocabulary.len();
    vocabulary.item_ids.push(item.item_id.clone());
    vocabulary.popularity.push(0);
    let categories = item.categories.iter().map(|name| category(&mut vocabulary.categories, name));
    let indices = categories.collect::<Result<BTreeSet<u16>>>()?;
    vocabulary.item_categories.push(indices.into_iter().collect());
    push_fact(&mut vocabulary.prices, before, item.price);
    push_fact(&mut vocabulary.published_at, before, item.published_at);
    Ok(())
}

/// The index of a category; a new one goes behind the others.
fn category(categories: &mut Vec<String>, name: &str) -> Result<u16> {
    let at = categories.iter().position(|known| known == name).unwrap_or(categories.len());
    if at >= Vocabulary::MAX_CATEGORIES {
        return Err(too_many_categories(at + 1));
    }
    if at == categories.len() {
        categories.push(name.to_owned());
    }
    Ok(at as u16)
}

/// Facts are columns that may be absent altogether.
fn push_fact<T: Copy>(column: &mut Vec<Option<T>>, before: usize, fact: Option<T>) {
    if fact.is_some() && column.is_empty() {
        column.resize(before, None);
    }
    if fact.is_some() || before > 0 && !column.is_empty() {
        column.push(fact);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_category_more_than_indices_is_refused_and_known_ones_are_found() {
        let most = Vocabulary::MAX_CATEGORIES;
        let mut names: Vec<String> = (0..most - 1).map(|i| format!("c{i}")).collect();
        assert_eq!(category(&mut names, "new").unwrap(), 65_534);
        assert_eq!(category(&mut names, "c9").unwrap(), 9);
        assert_eq!(category(&mut names, "more").unwrap_err().code(), Code::LimitExceeded);
        // Of another writer.
        names.extend((0..1000).map(|i| format!("d{i}")));
        assert_eq!(category(&mut names, "d900").unwrap_err().code(), Code::LimitExceeded);
    }
}
