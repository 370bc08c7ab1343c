//! Opening a bundle: what is changed, cut or missing is refused with its code.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ed25519_dalek::{Signer, SigningKey};
use sanderling_core::{
    Bundle, BundleFiles, Combination, NeighbourTable, PackedVocabulary, PublicKey, Signatures, Trust,
};
use sanderling_types::{
    Code, FeatureSpec, FieldKind, FileEntry, FileRole, ItemId, ItemIndex, Manifest, Sha256Hash,
};
use support::{Fixture, baseline, vocabulary};

fn code(files: BundleFiles) -> Code {
    Bundle::open(files, None).unwrap_err().code()
}

fn signed() -> (BundleFiles, Trust) {
    let mut files = Fixture::with_neighbours().files();
    let key = SigningKey::from_bytes(&[7; 32]);
    sign(&mut files, &[&key]);
    (files, Trust::in_keys([public(&key)]))
}

fn sign(files: &mut BundleFiles, keys: &[&SigningKey]) {
    let manifest = files.get(Manifest::FILE_NAME).unwrap();
    let mut signatures = Signatures::default();
    for key in keys {
        signatures.insert(&public(key), key.sign(manifest).to_bytes()).unwrap();
    }
    files.insert(Manifest::SIGNATURE_FILE_NAME, signatures.encode());
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

fn names(files: &BundleFiles) -> Vec<String> {
    files.iter().map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn a_good_bundle_opens_and_resolves_ids() {
    let (files, key) = signed();
    let bundle = Bundle::open(files, Some(&key)).unwrap();
    assert_eq!(bundle.hash(), bundle.manifest().bundle_hash());
    for (row, id) in vocabulary().item_ids.iter().enumerate() {
        let item = ItemIndex(row as u32);
        assert_eq!(bundle.item_index(id), Some(item));
        assert_eq!(bundle.item_id(item), Some(id.as_str()));
    }
    assert_eq!(bundle.item_index(&ItemId::from("unknown")), None);
    assert_eq!(bundle.item_id(ItemIndex(6)), None);
    assert_eq!(bundle.category_names(ItemIndex(2)), ["shoes", "hats"]);
}

#[test]
fn every_single_byte_flip_of_a_signed_bundle_is_refused() {
    let (files, key) = signed();
    for name in names(&files) {
        let original = files.get(&name).unwrap().to_vec();
        for at in 0..original.len() {
            let mut changed = original.clone();
            changed[at] ^= 1 << (at % 8);
            let mut files = files.clone();
            files.insert(name.clone(), changed);
            let code = Bundle::open(files, Some(&key)).unwrap_err().code();
            let signed_part = name.starts_with("manifest.");
            let expected = if signed_part { Code::SignatureInvalid } else { Code::HashMismatch };
            assert_eq!(code, expected, "{name} byte {at}");
        }
    }
}

#[test]
fn every_truncation_of_a_signed_bundle_is_refused() {
    let (files, key) = signed();
    for name in names(&files) {
        let original = files.get(&name).unwrap().to_vec();
        for len in 0..original.len() {
            let mut files = files.clone();
            files.insert(name.clone(), original[..len].to_vec());
            let code = Bundle::open(files, Some(&key)).unwrap_err().code();
            let signed_part = name.starts_with("manifest.");
            let expected = if signed_part { Code::SignatureInvalid } else { Code::FileTruncated };
            assert_eq!(code, expected, "{name} cut to {len}");
        }
    }
}

#[test]
fn an_unsigned_manifest_never_panics_and_never_lies_about_a_file() {
    let files = Fixture::new().files();
    let original = files.get(Manifest::FILE_NAME).unwrap().to_vec();
    for at in 0..original.len() {
        let mut changed = original.clone();
        changed[at] ^= 1;
        let mut files = files.clone();
        files.insert(Manifest::FILE_NAME, changed.clone());
        // A changed name or metric is a valid other manifest; it has another bundle hash.
        if let Ok(bundle) = Bundle::open(files, None) {
            assert_ne!(bundle.hash(), Bundle::open(Fixture::new().files(), None).unwrap().hash());
        }
    }
}

#[test]
fn missing_parts_have_their_codes() {
    let (files, key) = signed();
    for name in names(&files) {
        let mut without = BundleFiles::new();
        files
            .iter()
            .filter(|(other, _)| *other != name)
            .for_each(|(name, bytes)| without.insert(name, bytes.to_vec()));
        let expected =
            if name == Manifest::SIGNATURE_FILE_NAME { Code::SignatureMissing } else { Code::FileMissing };
        assert_eq!(Bundle::open(without, Some(&key)).unwrap_err().code(), expected, "{name}");
    }
    assert_eq!(code(BundleFiles::new()), Code::FileMissing);
    for other in [public(&SigningKey::from_bytes(&[8; 32])), PublicKey([0xff; 32])] {
        let error = Bundle::open(files.clone(), Some(&Trust::in_keys([other]))).unwrap_err();
        assert_eq!(error.code(), Code::SignatureInvalid);
        assert_eq!(error.expected_value(), Some(format!("signed by {}", other.id()).as_str()));
    }
}

#[test]
fn one_of_the_trusted_keys_is_enough_while_keys_change() {
    let [old, new, leaked] = [1, 2, 3].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    let (old_only, both) = (Trust::in_keys([public(&old)]), Trust::in_keys([public(&old), public(&new)]));
    let new_only = Trust::in_keys([public(&new)]);
    let mut files = Fixture::new().files();
    let opens = |files: &BundleFiles, trust: &Trust| Bundle::open(files.clone(), Some(trust)).is_ok();
    for (keys, expected) in [
        (vec![&old], [true, true, false]),
        (vec![&old, &new], [true, true, true]),
        (vec![&new, &leaked], [false, true, true]),
        (vec![&leaked], [false, false, false]),
    ] {
        sign(&mut files, &keys);
        assert_eq!([&old_only, &both, &new_only].map(|trust| opens(&files, trust)), expected);
    }
    // A signature under the name of another key, a signature of other bytes, one cut off, one twice.
    sign(&mut files, &[&old, &new]);
    let whole = files.get(Manifest::SIGNATURE_FILE_NAME).unwrap().to_vec();
    let renamed = [&whole[..8], &whole[80..]].concat();
    let damaged: Vec<u8> =
        whole.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 40 || at == 120)).collect();
    for wrong in [
        &renamed,
        &damaged,
        &whole[..143].to_vec(),
        &[&whole[..72], &whole[..72]].concat(),
        &Vec::new(),
        &whole.repeat(9),
    ] {
        files.insert(Manifest::SIGNATURE_FILE_NAME, wrong.clone());
        assert_eq!(Bundle::open(files.clone(), Some(&both)).unwrap_err().code(), Code::SignatureInvalid);
    }
    // One good signature is enough.
    let one_damaged: Vec<u8> = whole.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 40)).collect();
    files.insert(Manifest::SIGNATURE_FILE_NAME, one_damaged);
    assert!(opens(&files, &both) && opens(&files, &new_only) && !opens(&files, &old_only));
}

#[test]
fn bundles_expire_and_can_be_taken_back() {
    let open = |expires_at, rollback_index, now, least_rollback_index| {
        let mut fixture = Fixture::new();
        fixture.manifest.expires_at = expires_at;
        fixture.manifest.rollback_index = rollback_index;
        let trust = Trust { now, least_rollback_index, ..Trust::default() };
        Bundle::open(fixture.files(), Some(&trust)).map(|_| ()).map_err(|error| error.code())
    };
    assert_eq!(open(None, None, Some(i64::MAX), 0), Ok(()));
    assert_eq!(open(Some(1000), None, Some(1000), 0), Ok(()));
    assert_eq!(open(Some(1000), None, Some(1001), 0), Err(Code::BundleExpired));
    assert_eq!(open(Some(1000), None, None, 0), Ok(()), "a host without a clock");
    assert_eq!(open(None, Some(3), None, 3), Ok(()));
    assert_eq!(open(None, Some(3), None, 4), Err(Code::BundleRolledBack));
    assert_eq!(open(None, None, None, 1), Err(Code::BundleRolledBack));
    assert_eq!(open(None, Some(0), None, 0), Err(Code::ManifestInvalid), "0 is said by leaving it out");
}

#[test]
fn limits_beyond_what_a_runtime_runs_are_refused() {
    let of = |max_session_len| {
        let mut fixture = Fixture::new();
        fixture.manifest.limits.max_session_len = max_session_len;
        Bundle::open(fixture.files(), None).map(|_| ()).map_err(|error| error.code())
    };
    assert_eq!(of(1024), Ok(()));
    assert_eq!(of(1025), Err(Code::LimitExceeded));
}

#[test]
fn an_encoder_and_item_vectors_come_together_or_not_at_all() {
    let open = |mut fixture: Fixture, change: &dyn Fn(&mut Fixture)| {
        change(&mut fixture);
        Bundle::open(fixture.files(), None).map(|bundle| bundle.retrieves()).map_err(|error| error.code())
    };
    assert_eq!(open(Fixture::with_neighbours(), &|_| {}), Ok(true));
    assert_eq!(open(Fixture::neighbours_alone(), &|_| {}), Ok(true));
    assert_eq!(open(Fixture::popular_alone(), &|_| {}), Ok(false));
    assert_eq!(open(Fixture::new(), &|f| f.encoder = None), Err(Code::ManifestInvalid));
    assert_eq!(open(Fixture::new(), &|f| f.items = None), Err(Code::ManifestInvalid));
    assert_eq!(open(Fixture::popular_alone(), &|f| f.manifest.shapes.dim = 4), Err(Code::ManifestInvalid));
    assert_eq!(open(Fixture::new(), &|f| f.manifest.shapes.dim = 0), Err(Code::LimitExceeded));
    let short = NeighbourTable::quantise(&[vec![]], Combination { max_sources: 1, decay: 1.0 }).unwrap();
    let shorten = |f: &mut Fixture| f.neighbours = Some(short.encode());
    assert_eq!(open(Fixture::neighbours_alone(), &shorten), Err(Code::NeighboursInvalid));
}

#[test]
fn parts_that_disagree_are_refused() {
    let open = |change: &dyn Fn(&mut Fixture)| {
        let mut fixture = Fixture::new();
        change(&mut fixture);
        code(fixture.files())
    };
    assert_eq!(open(&|f| f.manifest.shapes.num_items = 7), Code::ItemsInvalid);
    assert_eq!(open(&|f| f.manifest.shapes.dim = 8), Code::ItemsInvalid);
    assert_eq!(open(&|f| f.manifest.shapes.num_features = 3), Code::IncompatibleFeatures);
    assert_eq!(open(&|f| f.manifest.format_version = 2), Code::UnsupportedFormatVersion);
    let mut short = vocabulary();
    short.item_ids.pop();
    short.item_categories.pop();
    short.popularity.pop();
    short.prices.pop();
    short.published_at.pop();
    assert_eq!(open(&|f| f.vocabulary = short.encode().unwrap()), Code::VocabularyInvalid);
    let mut spec = FeatureSpec::standard();
    spec.features[0].decay = 0.5;
    assert_eq!(open(&|f| f.features = spec.encode()), Code::IncompatibleFeatures);
    let mut strange = baseline();
    strange.fields[0].name = "feature.unknown".to_owned();
    assert_eq!(open(&|f| f.baseline = strange.encode()), Code::BaselineInvalid);
    let mut empty = baseline();
    empty.fields[0].bins = FieldKind::Numeric { edges: vec![] };
    assert_eq!(open(&|f| f.baseline = empty.encode()), Code::BaselineInvalid);
}

#[test]
fn a_device_takes_a_manifest_as_it_is_and_the_program_only_a_canonical_one() {
    let mut files = Fixture::new().files();
    let mut text = files.get(Manifest::FILE_NAME).unwrap().to_vec();
    text.push(b'\n');
    files.insert(Manifest::FILE_NAME, text.clone());
    assert_eq!(Bundle::open(files.clone(), None).unwrap().hash(), Sha256Hash::of(&text));
    assert_eq!(Manifest::decode(&text).unwrap_err().code(), Code::ManifestInvalid);
    // What the host hashed is not hashed again.
    files.set_digest(Manifest::FILE_NAME, Sha256Hash::of(b"other"));
    assert_eq!(Bundle::open(files, None).unwrap().hash(), Sha256Hash::of(b"other"));
}

#[test]
fn a_digest_of_the_host_is_believed_and_still_has_to_be_the_manifests() {
    let files = Fixture::new().files();
    let manifest = Manifest::decode(files.get(Manifest::FILE_NAME).unwrap()).unwrap();
    let path = manifest.file(FileRole::Vocabulary).unwrap().path.clone();
    let with = |digest: Sha256Hash| {
        let mut files = files.clone();
        files.set_digest(&path, digest);
        Bundle::open(files, None)
    };
    let right = Sha256Hash::of(files.get(&path).unwrap());
    assert_eq!(with(right).unwrap().hash(), Bundle::open(files.clone(), None).unwrap().hash());
    assert_eq!(with(Sha256Hash::of(b"other bytes")).unwrap_err().code(), Code::HashMismatch);
    // Where the manifest has a digest of pieces, the host's is that.
    let content = files.get(&path).unwrap().to_vec();
    let pieces = Sha256Hash::of_pieces(&content, FileEntry::PIECE_BYTES);
    let mut in_pieces = manifest.clone();
    in_pieces.files.get_mut(&FileRole::Vocabulary).unwrap().pieces_sha256 = Some(pieces);
    let with_pieces = |digest: Option<Sha256Hash>| {
        let mut files = files.clone();
        files.insert(Manifest::FILE_NAME, in_pieces.encode());
        digest.into_iter().for_each(|digest| files.set_digest(&path, digest));
        Bundle::open(files, None).map(|bundle| bundle.hash())
    };
    assert_eq!(with_pieces(Some(pieces)).unwrap(), in_pieces.bundle_hash());
    assert_eq!(with_pieces(None).unwrap(), in_pieces.bundle_hash());
    assert_eq!(with_pieces(Some(right)).unwrap_err().code(), Code::HashMismatch);
    // A file that is put in later has no digest of the host.
    let mut replaced = files.clone();
    replaced.set_digest(&path, right);
    let mut damaged = files.get(&path).unwrap().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    replaced.insert(path.clone(), damaged);
    assert_eq!(Bundle::open(replaced, None).unwrap_err().code(), Code::HashMismatch);
}

#[test]
fn what_a_list_would_need_memory_for_is_bounded() {
    let mut file = vocabulary().encode().unwrap();
    file[12..16].copy_from_slice(&65_537u32.to_le_bytes());
    let error = PackedVocabulary::decode(file).unwrap_err();
    assert_eq!(error.code(), Code::VocabularyInvalid);
    assert!(error.message().contains("more than 65536 categories"), "{error}");
    let affinities = |len: usize| {
        let names =
            (0..len).map(|at| format!(r#"{{"decay":0.5,"kind":"category_affinity","name":"a{at}"}}"#));
        let features = names.collect::<Vec<_>>().join(",");
        FeatureSpec::decode(format!(r#"{{"features":[{features}],"format_version":1}}"#).as_bytes())
    };
    assert!(affinities(32).is_ok());
    let error = affinities(33).unwrap_err();
    assert_eq!(error.code(), Code::IncompatibleFeatures);
    assert!(error.message().contains("more than 32 category affinities"), "{error}");
}
