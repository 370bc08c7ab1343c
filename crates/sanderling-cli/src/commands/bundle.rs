//! `sanderling inspect | keygen | sign`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use ed25519_dalek::{Signer, SigningKey};
use sanderling_core::{PublicKey, Signatures};
use sanderling_types::{Code, Error, Manifest, Result};
use serde_json::json;

use super::table;
use crate::output::{Output, Verdict};

/// Show what a bundle is, after checking every file.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling inspect bundles/shop")]
pub(crate) struct Inspect {
    /// Bundle folder.
    bundle: PathBuf,
}

/// Make a key pair for signing bundles.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling keygen --out shop.key\n\n\
    Writes the secret key to shop.key (readable by you only) and the public key to shop.key.pub.")]
pub(crate) struct Keygen {
    /// File for the secret key.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Sign a bundle: writes manifest.sig, Ed25519 signatures of manifest.json.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sanderling sign bundles/shop --key shop.key --expires-in-days 90\n  \
    sanderling sign bundles/shop --key shop.key --key new.key\n\n\
    Signatures of other keys stay unless the manifest changes. To change a key, sign with both until every device\n\
    knows the new one. To take bundles back for good, sign the next one with a larger --rollback-index.")]
pub(crate) struct Sign {
    /// Bundle folder.
    bundle: PathBuf,
    /// File of a secret key; may be given several times.
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    /// Days from now after which devices refuse the bundle; 0 for never. Without it, what the manifest says stays.
    #[arg(long, value_name = "DAYS")]
    expires_in_days: Option<u32>,
    /// Devices refuse bundles of this name with a smaller index from when they have seen this one. Without it, what the manifest
    /// says stays.
    #[arg(long, value_name = "INDEX")]
    rollback_index: Option<u64>,
}

pub(crate) fn inspect(args: &Inspect, output: &Output) -> Result<Verdict> {
    let engine = super::load_engine(&args.bundle, None)?;
    let manifest = engine.bundle().manifest();
    let mut lines = vec![
        format!("{} version {}  {}", manifest.name, manifest.version, engine.bundle().hash()),
        format!(
            "{} items x {} dimensions, {} features, histories up to {}",
            manifest.shapes.num_items,
            manifest.shapes.dim,
            manifest.shapes.num_features,
            manifest.limits.max_session_len
        ),
    ];
    lines.extend(
        manifest.files.values().map(|file| format!("  {:<16}{:>12}", file.path, table::bytes(file.bytes))),
    );
    lines.push(table::metrics(&manifest.recommender, &manifest.metrics, &std::collections::BTreeMap::new()));
    let json = json!({ "bundle_hash": engine.bundle().hash(), "bundle_bytes": manifest.bundle_bytes(),
        "manifest": manifest });
    output.result(&json, &lines.join("\n"))?;
    Ok(Verdict::Done)
}

pub(crate) fn keygen(args: &Keygen, output: &Output) -> Result<Verdict> {
    let mut secret = [0u8; 32];
    getrandom::fill(&mut secret).map_err(|error| {
        Error::new(Code::Internal, "the operating system gave no random bytes").found(error)
    })?;
    let key = SigningKey::from_bytes(&secret);
    let public = hex(key.verifying_key().as_bytes());
    let id = PublicKey(key.verifying_key().to_bytes()).id();
    let public_path = PathBuf::from(format!("{}.pub", args.out.display()));
    write_new(&args.out, &hex(&secret), true)?;
    write_new(&public_path, &public, false)?;
    output.result(
        &json!({ "public_key": public, "key_id": id.to_string(), "secret_key_file": args.out, "public_key_file": public_path }),
        &format!("public key {public}, id {id}\nsecret key in {}, keep it", args.out.display()),
    )?;
    Ok(Verdict::Done)
}

/// Reads a public key. A secret one has the same form, and beside it what `keygen` made of it.
///
/// # Errors
/// [`Code::Io`], [`Code::InvalidArgument`].
pub(crate) fn read_public_key(path: &Path) -> Result<PublicKey> {
    let key = read_key(path)?;
    let public_path = PathBuf::from(format!("{}.pub", path.display()));
    let public = SigningKey::from_bytes(&key).verifying_key().to_bytes();
    if public_path.exists() && read_key(&public_path).is_ok_and(|beside| beside == public) {
        return Err(Error::new(Code::InvalidArgument, format!("{} is a secret key", path.display()))
            .hint(format!("name {}", public_path.display())));
    }
    Ok(PublicKey(key))
}

pub(crate) fn sign(args: &Sign, output: &Output) -> Result<Verdict> {
    // Only what opens without error is worth a signature.
    let engine = super::load_engine(&args.bundle, None)?;
    let before = engine.bundle().manifest();
    let manifest = restated(before, args)?;
    let (signatures, public_keys) = sign_manifest(&args.bundle, before, &manifest, &args.key)?;
    let hash = manifest.bundle_hash();
    let key_ids: Vec<String> = signatures.key_ids().map(|id| id.to_string()).collect();
    let public_keys: Vec<String> = public_keys.iter().map(|key| hex(&key.0)).collect();
    output.result(
        &json!({ "bundle_hash": hash, "expires_at": manifest.expires_at, "key_ids": key_ids, "public_keys": public_keys,
            "rollback_index": manifest.rollback_index.unwrap_or(0) }),
        &format!("signed {hash} for public key {}; signatures of {}", public_keys.join(" and "), key_ids.join(" and ")),
    )?;
    Ok(Verdict::Done)
}

/// Signs `manifest` with the keys of some files and puts it into the folder in place of `before`, whose other signatures stay where
/// the two are equal.
pub(crate) fn sign_manifest(
    folder: &Path,
    before: &Manifest,
    manifest: &Manifest,
    keys: &[PathBuf],
) -> Result<(Signatures, Vec<PublicKey>)> {
    let keys: Vec<SigningKey> =
        keys.iter().map(|path| Ok(SigningKey::from_bytes(&read_key(path)?))).collect::<Result<_>>()?;
    let bytes = manifest.encode();
    let path = folder.join(Manifest::SIGNATURE_FILE_NAME);
    let mut signatures = match fs::read(&path) {
        Ok(signatures) if manifest == before => Signatures::decode(&signatures)?,
        _ => Signatures::default(),
    };
    let mut public_keys = Vec::new();
    for key in &keys {
        let public = PublicKey(key.verifying_key().to_bytes());
        signatures.insert(&public, key.sign(&bytes).to_bytes())?;
        public_keys.push(public);
    }
    if manifest != before {
        // Signatures of another manifest would be worse than none.
        let _ = fs::remove_file(&path);
        replace(folder, Manifest::FILE_NAME, &bytes)?;
    }
    replace(folder, Manifest::SIGNATURE_FILE_NAME, &signatures.encode())?;
    Ok((signatures, public_keys))
}

/// The manifest with what the arguments say of its time.
fn restated(manifest: &Manifest, args: &Sign) -> Result<Manifest> {
    let mut out = manifest.clone();
    if let Some(days) = args.expires_in_days {
        let now = super::trust(&[])?.now.unwrap_or(0);
        out.expires_at = (days > 0).then(|| now + i64::from(days) * 86_400);
    }
    if let Some(index) = args.rollback_index {
        out.rollback_index = Some(index).filter(|index| *index > 0);
    }
    Ok(out)
}

/// Writes a file of a bundle in one step.
fn replace(bundle: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (path, fresh) = (bundle.join(name), bundle.join(format!(".{name}.new")));
    fs::write(&fresh, bytes)
        .and_then(|()| fs::rename(&fresh, &path))
        .map_err(|error| io_error("written", &path, error))
}

fn write_new(path: &Path, text: &str, secret: bool) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if secret {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = secret;
    let mut file = options.open(path).map_err(|error| io_error("created", path, error))?;
    writeln!(file, "{text}").map_err(|error| io_error("written", path, error))
}

fn io_error(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(Code::Io, format!("{} cannot be {what}", path.display())).found(&error).source_error(error)
}

/// Reads a key of 64 hexadecimal digits.
pub(crate) fn read_key(path: &Path) -> Result<[u8; 32]> {
    let text = fs::read_to_string(path).map_err(|error| io_error("read", path, error))?;
    let digits = text.trim();
    let byte = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> =
        (digits.len() == 64).then(|| (0..32).map(|i| byte(2 * i)).collect()).flatten();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        Error::new(Code::InvalidArgument, format!("{} is not a key", path.display()))
            .expected("64 hexadecimal digits")
            .hint("make one with `sanderling keygen`")
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
