//! Matrices in NumPy's `.npy` files (numpy.lib.format, versions 1 to 3), as `numpy.save` writes them.

use sanderling_types::{Code, Error, Result};

const MAGIC: &[u8] = b"\x93NUMPY";
const DTYPE: &str = "'<f4'";

/// A row-major matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
    /// `[rows, cols]`.
    pub elements: Vec<f32>,
}

/// Reads a matrix of little-endian f32 in C order. The length of the file is checked before anything is
/// allocated.
///
/// # Errors
/// [`Code::InvalidArgument`] for everything else, with what was expected and found.
pub fn decode(bytes: &[u8]) -> Result<Matrix> {
    let (header, body) = split_header(bytes)?;
    let dtype = entry(header, "descr")?;
    if !dtype.starts_with(DTYPE) {
        return Err(invalid("holds another type")
            .expected(DTYPE)
            .found(cut(dtype))
            .hint("save it with numpy.save(file, array.astype(numpy.float32))"));
    }
    if !entry(header, "fortran_order")?.starts_with("False") {
        return Err(invalid("is in Fortran order")
            .expected("C order")
            .hint("save it with numpy.save(file, numpy.ascontiguousarray(array))"));
    }
    let (rows, cols) = shape(entry(header, "shape")?)?;
    let num_bytes = rows.checked_mul(cols).and_then(|elements| elements.checked_mul(4));
    if num_bytes != Some(body.len()) {
        return Err(invalid("has the wrong length")
            .expected(format!("{rows} x {cols} elements of 4 bytes behind the header"))
            .found(format!("{} bytes", body.len())));
    }
    let (elements, _) = body.as_chunks::<4>();
    let elements = elements.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Ok(Matrix { rows, cols, elements })
}

/// The header, a Python dictionary, and what is behind it.
fn split_header(bytes: &[u8]) -> Result<(&str, &[u8])> {
    let not_npy = || invalid("is no .npy file").expected("the first bytes of numpy.save");
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(not_npy)?;
    let (version, rest) = rest.split_at_checked(2).ok_or_else(not_npy)?;
    let (len, rest) = match version[0] {
        1 => {
            let (len, rest) = rest.split_first_chunk::<2>().ok_or_else(not_npy)?;
            (usize::from(u16::from_le_bytes(*len)), rest)
        }
        2 | 3 => {
            let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(not_npy)?;
            (u32::from_le_bytes(*len) as usize, rest)
        }
        other => {
            return Err(invalid("has another format version").expected("1 to 3").found(other));
        }
    };
    let (header, body) = rest.split_at_checked(len).ok_or_else(not_npy)?;
    Ok((std::str::from_utf8(header).map_err(|_| not_npy())?, body))
}

/// What follows `'key':` in the header.
fn entry<'a>(header: &'a str, key: &str) -> Result<&'a str> {
    let (_, value) = header
        .split_once(&format!("'{key}':"))
        .ok_or_else(|| invalid(&format!("has no {key:?} in its header")).found(cut(header)))?;
    Ok(value.trim_start())
}

fn shape(text: &str) -> Result<(usize, usize)> {
    let inner = text.strip_prefix('(').and_then(|text| text.split_once(')')).map(|(inner, _)| inner);
    let dims: Option<Vec<usize>> = inner.and_then(|inner| {
        let parts = inner.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| part.parse().ok()).collect()
    });
    match dims.as_deref() {
        Some([rows, cols]) => Ok((*rows, *cols)),
        _ => Err(invalid("is no matrix").expected("a shape of two numbers, (items, dim)").found(cut(text))),
    }
}

/// Enough of a text to recognise it.
fn cut(text: &str) -> String {
    text.trim_end().chars().take(60).collect()
}

fn invalid(what: &str) -> Error {
    Error::new(Code::InvalidArgument, format!("the file of item vectors {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `numpy.save` writes for version 1.
    fn npy(header: &str, body: &[u8]) -> Vec<u8> {
        let padded = format!("{header:<117}\n");
        [MAGIC, &[1, 0], &(padded.len() as u16).to_le_bytes(), padded.as_bytes(), body].concat()
    }

    #[test]
    fn a_matrix_comes_out_row_by_row() {
        let body: Vec<u8> = (0..6u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
        let bytes = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", &body);
        let expected = Matrix { rows: 2, cols: 3, elements: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0] };
        assert_eq!(decode(&bytes).expect("reads"), expected);
    }

    #[test]
    fn everything_else_is_named() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        for (header, body, named) in [
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", 48, "'<f8'"),
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }", 24, "'>f4'"),
            ("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", 24, "C order"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", 24, "(6,)"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 1), }", 24, "two numbers"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, -3), }", 24, "two numbers"),
            ("{'descr': '<f4', 'fortran_order': False, }", 24, "shape"),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }",
                0,
                "wrong length",
            ),
            (good, 20, "20 bytes"),
            (good, 25, "25 bytes"),
        ] {
            let error = decode(&npy(header, &vec![0; body])).expect_err(header);
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.to_string().contains(named), "{error}");
        }
        for bytes in [&b"PK\x03\x04"[..], MAGIC, b"\x93NUMPY\x01\0\xff\xff{}"] {
            assert!(decode(bytes).expect_err("refuses").to_string().contains("no .npy file"));
        }
    }
}
