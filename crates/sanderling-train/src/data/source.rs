//! Files as bytes: found by name, unpacked by content, with line ends and marks made uniform.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use sanderling_types::{Code, Error, Result};

pub(crate) use crate::folder::io_error;

const COMPRESSIONS: [&str; 4] = ["xz", "gz", "zst", "zstd"];
const TABLE_ENDINGS: [&str; 5] = ["csv", "tsv", "jsonl", "ndjson", "parquet"];
const BUFFER_BYTES: usize = 1 << 17;

/// What kind of table a file name promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableFormat {
    Delimited,
    JsonLines,
    Parquet,
}

/// Name of a file without the ending of its compression.
pub(crate) fn plain_name(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match name.rsplit_once('.') {
        Some((stem, ending)) if COMPRESSIONS.contains(&ending) => stem.to_owned(),
        _ => name,
    }
}

/// The format that a file's name promises; text with separators when it promises nothing.
pub(crate) fn table_format(path: &Path) -> TableFormat {
    match plain_name(path).rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
        Some("jsonl" | "ndjson" | "json") => TableFormat::JsonLines,
        Some("parquet" | "pq") => TableFormat::Parquet,
        _ => TableFormat::Delimited,
    }
}

/// Finds the first of `names` in a folder, each as it is or compressed.
pub(crate) fn find(folder: &Path, names: &[&str]) -> Option<PathBuf> {
    names.iter().find_map(|name| {
        std::iter::once((*name).to_owned())
            .chain(COMPRESSIONS.iter().map(|ending| format!("{name}.{ending}")))
            .map(|name| folder.join(name))
            .find(|path| path.is_file())
    })
}

/// Finds `stem.csv`, `.tsv`, `.jsonl`, `.ndjson` or `.parquet` in a folder, compressed or not.
pub(crate) fn find_table(folder: &Path, stem: &str) -> Option<PathBuf> {
    let names: Vec<String> = TABLE_ENDINGS.iter().map(|ending| format!("{stem}.{ending}")).collect();
    find(folder, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The tables in a folder, in the order of their names: what ends as one, compressed or not. Hidden files are left
/// out, and those whose names begin with `_`, which other programs leave beside their tables.
pub(crate) fn tables(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|error| io_error("look into", folder, error))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| io_error("look into", folder, error))?.path();
        let name = plain_name(&path);
        let is_table = name.rsplit_once('.').is_some_and(|(_, ending)| TABLE_ENDINGS.contains(&ending));
        if is_table && !name.starts_with(['.', '_']) && path.is_file() {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// [`Code::NotFound`] with the names that would have done.
pub(crate) fn not_found(path: &Path, expected: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no usable data at {}", path.display()))
        .expected(expected)
        .found(if path.is_dir() { "a folder without it" } else { "no such file" })
}

/// How far a file has been read, in bytes as they are on disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadMeter {
    read: Arc<AtomicU64>,
    total: u64,
}

impl ReadMeter {
    pub(crate) fn bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

struct Metered<R> {
    inner: R,
    meter: ReadMeter,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.meter.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// One opened file.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) reader: Box<dyn Read + Send>,
    pub(crate) meter: ReadMeter,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("path", &self.path).field("bytes_total", &self.meter.total).finish()
    }
}

impl Source {
    /// Opens a file; what is inside is unpacked if its first bytes say xz, gzip or zstd.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| io_error("open", path, error))?;
        let metadata = file.metadata().map_err(|error| io_error("open", path, error))?;
        if metadata.is_dir() {
            return Err(not_found(path, "a file"));
        }
        let meter = ReadMeter { total: metadata.len(), ..ReadMeter::default() };
        let mut raw = BufReader::with_capacity(BUFFER_BYTES, Metered { inner: file, meter: meter.clone() });
        let start = raw.fill_buf().map_err(|error| io_error("read", path, error))?;
        let reader: Box<dyn Read + Send> = match start {
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
                Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(raw))
            }
            [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(
                zstd::stream::read::Decoder::with_buffer(raw)
                    .map_err(|error| io_error("unpack", path, error))?,
            ),
            _ => Box::new(raw),
        };
        Ok(Self { path: path.to_owned(), reader, meter })
    }

    /// The content as text lines, see [`TextReader`].
    pub(crate) fn text(self) -> Result<(BufReader<TextReader>, ReadMeter)> {
        let reader = TextReader::new(self.reader, &self.path)?;
        Ok((BufReader::with_capacity(BUFFER_BYTES, reader), self.meter))
    }
}

/// Bytes of a text file without a byte order mark, with `\n` line ends only, and always with a
/// line end after the last line, so that line numbers can be counted the same way everywhere.
pub(crate) struct TextReader {
    inner: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    carriage_return_pending: bool,
    last_byte: u8,
    finished: bool,
}

impl TextReader {
    fn new(mut inner: Box<dyn Read + Send>, path: &Path) -> Result<Self> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut end = 0;
        while end < 3 {
            match inner.read(&mut buffer[end..]).map_err(|error| io_error("read", path, error))? {
                0 => break,
                read => end += read,
            }
        }
        let start = match &buffer[..end] {
            [0xef, 0xbb, 0xbf, ..] => 3,
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                return Err(Error::new(Code::DataInvalid, format!("{} is not UTF-8", path.display()))
                    .expected("UTF-8 text")
                    .found("a UTF-16 byte order mark")
                    .hint("save the file as UTF-8"));
            }
            _ => 0,
        };
        let mut reader = Self {
            inner,
            buffer,
            start,
            end,
            carriage_return_pending: false,
            last_byte: b'\n',
            finished: false,
        };
        reader.make_line_ends_uniform();
        Ok(reader)
    }

    /// Turns `\r\n` into `\n` inside `start..end`; a `\r` at the very end waits for the next byte.
    fn make_line_ends_uniform(&mut self) {
        let chunk = &mut self.buffer[self.start..self.end];
        let mut kept = 0;
        for at in 0..chunk.len() {
            let byte = chunk[at];
            let next = chunk.get(at + 1);
            if byte == b'\r' && next == Some(&b'\n') {
                continue;
            }
            if byte == b'\r' && next.is_none() {
                self.carriage_return_pending = true;
                break;
            }
            chunk[kept] = byte;
            kept += 1;
        }
        if kept > 0 {
            self.last_byte = chunk[kept - 1];
        }
        self.end = self.start + kept;
    }

    fn refill(&mut self) -> io::Result<()> {
        while self.start == self.end && !self.finished {
            let carried = usize::from(self.carriage_return_pending);
            self.buffer[0] = b'\r';
            self.carriage_return_pending = false;
            let read = self.inner.read(&mut self.buffer[carried..])?;
            (self.start, self.end) = (0, carried + read);
            if read > 0 {
                self.make_line_ends_uniform();
                continue;
            }
            self.finished = true;
            if carried == 1 || self.last_byte != b'\n' {
                self.buffer[0] = b'\n';
                self.end = 1;
            }
        }
        Ok(())
    }
}

impl Read for TextReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.refill()?;
        let length = out.len().min(self.end - self.start);
        out[..length].copy_from_slice(&self.buffer[self.start..self.start + length]);
        self.start += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, path::Path};

    use super::TextReader;

    /// Gives one byte a read, so that every boundary inside a line end is met.
    struct OneByOne(Vec<u8>, usize);

    impl Read for OneByOne {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let Some(byte) = self.0.get(self.1) else { return Ok(0) };
            out[0] = *byte;
            self.1 += 1;
            Ok(1)
        }
    }

    fn text_of(bytes: &[u8], one_by_one: bool) -> String {
        let inner: Box<dyn Read + Send> = if one_by_one {
            Box::new(OneByOne(bytes.to_vec(), 0))
        } else {
            Box::new(std::io::Cursor::new(bytes.to_vec()))
        };
        let mut text = String::new();
        TextReader::new(inner, Path::new("x")).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn line_ends_and_marks_become_uniform() {
        for (input, expected) in [
            ("", ""),
            ("a", "a\n"),
            ("a\n", "a\n"),
            ("a\r\nb\r\n", "a\nb\n"),
            ("\u{feff}a\r\nb", "a\nb\n"),
            ("a\rb", "a\rb\n"),
            ("a\r", "a\n"),
            ("\r\n\r\n", "\n\n"),
        ] {
            assert_eq!(text_of(input.as_bytes(), false), expected, "{input:?}");
            assert_eq!(text_of(input.as_bytes(), true), expected, "{input:?} byte by byte");
        }
        assert!(TextReader::new(Box::new(&b"\xff\xfea\0"[..]), Path::new("x")).is_err());
    }
}
