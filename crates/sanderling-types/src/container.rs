//! Several named files in one body: how a bundle folder travels in one HTTP request.
//!
//! Layout, all integers little-endian: `u32` number of files; then for every file, by ascending
//! name, `u32` length of the name, the name (UTF-8), `u64` length of the content, the content.
//! There is exactly one encoding of a set of files, and nothing may follow the last one.

use std::collections::BTreeMap;

use crate::{Code, Error, Result};

/// Most files in one container.
const MAX_FILES: usize = 64;
/// Longest file name in bytes.
const MAX_NAME_BYTES: usize = 255;

/// Packs named files into one container.
///
/// # Errors
/// [`Code::LimitExceeded`] for more than 64 files or a name over 255 bytes.
pub fn pack_files(files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>> {
    if files.len() > MAX_FILES {
        return Err(limit("the container has too many files", MAX_FILES, files.len()));
    }
    let total: usize = files.iter().map(|(name, content)| 12 + name.len() + content.len()).sum();
    let mut out = Vec::with_capacity(4 + total);
    out.extend((files.len() as u32).to_le_bytes());
    for (name, content) in files {
        if name.len() > MAX_NAME_BYTES {
            return Err(limit("a file name in the container is too long", MAX_NAME_BYTES, name.len()));
        }
        out.extend((name.len() as u32).to_le_bytes());
        out.extend(name.as_bytes());
        out.extend((content.len() as u64).to_le_bytes());
        out.extend(content);
    }
    Ok(out)
}

/// Reads a container that [`pack_files`] wrote.
///
/// # Errors
/// [`Code::LimitExceeded`] over `max_bytes`, 64 files or a name of 255 bytes;
/// [`Code::FileTruncated`] when a length points past the end; [`Code::InvalidArgument`] for names
/// that are not UTF-8 or not in ascending order, and for left-over bytes.
pub fn unpack_files(bytes: &[u8], max_bytes: usize) -> Result<BTreeMap<String, Vec<u8>>> {
    if bytes.len() > max_bytes {
        return Err(limit("the container is too large", max_bytes, bytes.len()));
    }
    let mut rest = bytes;
    let num_files = take_u32(&mut rest)?;
    if num_files > MAX_FILES {
        return Err(limit("the container has too many files", MAX_FILES, num_files));
    }
    let mut files = BTreeMap::new();
    for _ in 0..num_files {
        let name_bytes = take_u32(&mut rest)?;
        if name_bytes > MAX_NAME_BYTES {
            return Err(limit("a file name in the container is too long", MAX_NAME_BYTES, name_bytes));
        }
        let name = std::str::from_utf8(take(&mut rest, name_bytes as u64)?).map_err(|error| {
            Error::new(Code::InvalidArgument, "a file name in the container is not UTF-8").source_error(error)
        })?;
        if files.last_key_value().is_some_and(|(last, _): (&String, _)| last.as_str() >= name) {
            return Err(Error::new(
                Code::InvalidArgument,
                "the container's files are not in ascending order",
            )
            .found(name));
        }
        let content_bytes = take(&mut rest, 8)?;
        let content_len = content_bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        files.insert(name.to_owned(), take(&mut rest, content_len)?.to_vec());
    }
    if rest.is_empty() {
        return Ok(files);
    }
    Err(Error::new(Code::InvalidArgument, "bytes follow the container's last file")
        .expected("0 bytes")
        .found(format!("{} bytes", rest.len())))
}

fn take_u32(rest: &mut &[u8]) -> Result<usize> {
    let bytes = take(rest, 4)?;
    Ok(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

fn take<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8]> {
    let split = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len));
    let (head, tail) = split.ok_or_else(|| {
        Error::new(Code::FileTruncated, "the container ends early")
            .expected(format!("{len} more bytes"))
            .found(format!("{} bytes", rest.len()))
    })?;
    *rest = tail;
    Ok(head)
}

fn limit(message: &str, most: usize, found: usize) -> Error {
    Error::new(Code::LimitExceeded, message).expected(format!("at most {most}")).found(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{pack_files, unpack_files};
    use crate::Code;

    fn files() -> BTreeMap<String, Vec<u8>> {
        [("a.json".to_owned(), vec![1, 2, 3]), ("b.bin".to_owned(), vec![]), ("é".to_owned(), vec![0; 300])]
            .into()
    }

    #[test]
    fn packed_files_come_back_and_the_layout_is_stable() {
        let packed = pack_files(&files()).unwrap();
        assert_eq!(&packed[..14], b"\x03\0\0\0\x06\0\0\0a.json");
        assert_eq!(unpack_files(&packed, packed.len()).unwrap(), files());
    }

    #[test]
    fn damaged_containers_are_refused_with_a_code() {
        let packed = pack_files(&files()).unwrap();
        for end in 0..packed.len() {
            assert_eq!(
                unpack_files(&packed[..end], 1 << 20).unwrap_err().code(),
                Code::FileTruncated,
                "cut at {end}"
            );
        }
        let code = |bytes: &[u8]| unpack_files(bytes, 400).unwrap_err().code();
        assert_eq!(code(&[packed.as_slice(), b"x"].concat()), Code::InvalidArgument, "left-over byte");
        assert_eq!(code(&[0; 401]), Code::LimitExceeded, "too large");
        assert_eq!(code(&65u32.to_le_bytes()), Code::LimitExceeded, "too many files");
        assert_eq!(code(b"\x01\0\0\0\0\x01\0\0"), Code::LimitExceeded, "long name");
        assert_eq!(code(b"\x01\0\0\0\x01\0\0\0\xff\0\0\0\0\0\0\0\0"), Code::InvalidArgument, "not UTF-8");
        assert_eq!(
            code(b"\x01\0\0\0\x01\0\0\0a\xff\xff\xff\xff\xff\xff\xff\xff"),
            Code::FileTruncated,
            "huge length"
        );
        let twice = b"\x02\0\0\0\x01\0\0\0a\0\0\0\0\0\0\0\0\x01\0\0\0a\0\0\0\0\0\0\0\0";
        assert_eq!(code(twice), Code::InvalidArgument, "the same name twice");
    }
}
