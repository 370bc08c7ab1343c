//! The first look at an ONNX file: walks the protobuf wire format without allocating and bounds
//! what decoding it can cost.
//!
//! A field of two bytes becomes a struct of hundreds, so the number of fields is bounded before
//! anything is decoded, and messages that a model of ours never holds are refused.

use sanderling_types::{Code, Error, Result};

/// Largest accepted model.
pub(super) const MAX_ONNX_BYTES: usize = 32 << 20;
/// Most protobuf fields of a model.
const MAX_FIELDS: u32 = 200_000;

/// Messages whose fields are walked.
#[derive(Debug, Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
}

enum Content {
    Message(Message),
    /// Text, bytes, packed numbers, or a small message that is counted as one field.
    Leaf,
    Refused(&'static str),
}

/// What a length-delimited field holds, by its number in the ONNX schema.
fn content(message: Message, field: u64) -> Content {
    use Message as M;
    match (message, field) {
        (M::Model, 7) => Content::Message(M::Graph),
        (M::Model, 20) => Content::Refused("training information"),
        (M::Model, 25) => Content::Refused("functions"),
        (M::Graph, 1) => Content::Message(M::Node),
        (M::Graph, 5) | (M::Attribute, 5 | 10) => Content::Message(M::Tensor),
        (M::Graph, 11..=13) => Content::Message(M::ValueInfo),
        (M::Graph, 14) => Content::Refused("quantisation annotations"),
        (M::Graph, 15) | (M::Attribute, 22 | 23) => Content::Refused("sparse tensors"),
        (M::Node, 5) => Content::Message(M::Attribute),
        (M::Attribute, 6 | 11) => Content::Refused("sub-graphs"),
        (M::Attribute, 14 | 15) => Content::Refused("type attributes"),
        (M::ValueInfo, 2) => Content::Message(M::Type),
        (M::Type, 1) => Content::Message(M::TensorType),
        (M::TensorType, 2) => Content::Message(M::Shape),
        (M::Tensor, 13) => Content::Refused("external data"),
        _ => Content::Leaf,
    }
}

/// Checks that `onnx` is well-formed protobuf whose decoding is cheap.
///
/// # Errors
/// [`Code::LimitExceeded`] for too many bytes or fields, else [`Code::ModelInvalid`].
pub(super) fn check_wire(onnx: &[u8], what: &str) -> Result<()> {
    if onnx.len() > MAX_ONNX_BYTES {
        return Err(Error::new(Code::LimitExceeded, format!("{what} is too large"))
            .expected(format!("at most {MAX_ONNX_BYTES} bytes"))
            .found(format!("{} bytes", onnx.len())));
    }
    let mut walk = Walk { what, num_fields: 0 };
    walk.message(onnx, Message::Model)
}

struct Walk<'a> {
    what: &'a str,
    num_fields: u32,
}

impl Walk<'_> {
    fn message(&mut self, mut rest: &[u8], message: Message) -> Result<()> {
        while !rest.is_empty() {
            self.num_fields += 1;
            if self.num_fields > MAX_FIELDS {
                return Err(Error::new(Code::LimitExceeded, format!("{} has too many fields", self.what))
                    .expected(format!("at most {MAX_FIELDS}")));
            }
            let key = self.varint(&mut rest)?;
            match key & 7 {
                0 => {
                    self.varint(&mut rest)?;
                }
                1 => {
                    self.take(&mut rest, 8)?;
                }
                2 => {
                    let len = self.varint(&mut rest)?;
                    let inner = self.take(&mut rest, len)?;
                    match content(message, key >> 3) {
                        Content::Message(inner_message) => self.message(inner, inner_message)?,
                        Content::Leaf => {}
                        Content::Refused(name) => {
                            return Err(Error::new(
                                Code::ModelInvalid,
                                format!("{} holds {name}", self.what),
                            )
                            .expected("a self-contained inference graph"));
                        }
                    }
                }
                5 => {
                    self.take(&mut rest, 4)?;
                }
                _ => return Err(self.malformed()),
            }
        }
        Ok(())
    }

    fn varint(&self, rest: &mut &[u8]) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(rest, 1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed())
    }

    fn take<'b>(&self, rest: &mut &'b [u8], len: u64) -> Result<&'b [u8]> {
        let split = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len));
        let (head, tail) = split.ok_or_else(|| self.malformed())?;
        *rest = tail;
        Ok(head)
    }

    fn malformed(&self) -> Error {
        Error::new(Code::ModelInvalid, format!("{} is not an ONNX file", self.what))
    }
}
