//! `sanderling inspect | keygen | sign`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use ed25519_dalek::{Signer, SigningKey};
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

/// Sign a bundle: writes manifest.sig, an Ed25519 signature of manifest.json.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling sign bundles/shop --key shop.key")]
pub(crate) struct Sign {
    /// Bundle folder.
    bundle: PathBuf,
    /// File of the secret key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
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
    let public_path = PathBuf::from(format!("{}.pub", args.out.display()));
    write_new(&args.out, &hex(&secret), true)?;
    write_new(&public_path, &public, false)?;
    output.result(
        &json!({ "public_key": public, "secret_key_file": args.out, "public_key_file": public_path }),
        &format!("public key {public}\nsecret key in {}, keep it", args.out.display()),
    )?;
    Ok(Verdict::Done)
}

pub(crate) fn sign(args: &Sign, output: &Output) -> Result<Verdict> {
    // Only what opens without error is worth a signature.
    let engine = super::load_engine(&args.bundle, None)?;
    let key = SigningKey::from_bytes(&read_key(&args.key)?);
    let signature = key.sign(&engine.bundle().manifest().encode());
    let path = args.bundle.join(Manifest::SIGNATURE_FILE_NAME);
    let fresh = args.bundle.join(format!(".{}.new", Manifest::SIGNATURE_FILE_NAME));
    fs::write(&fresh, signature.to_bytes())
        .and_then(|()| fs::rename(&fresh, &path))
        .map_err(|error| io_error("written", &path, error))?;
    let public = hex(key.verifying_key().as_bytes());
    output.result(
        &json!({ "bundle_hash": engine.bundle().hash(), "public_key": public, "signature": hex(&signature.to_bytes()) }),
        &format!("signed {} for public key {public}", engine.bundle().hash()),
    )?;
    Ok(Verdict::Done)
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
