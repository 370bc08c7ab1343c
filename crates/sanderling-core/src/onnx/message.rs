//! Protobuf messages: as many bytes as the ONNX schema needs, in the order of its field numbers.

/// A message under construction. Fields of the default value are left out, as proto3 has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn int(mut self, field: u64, value: i64) -> Self {
        if value != 0 {
            self.put_int(field, value);
        }
        self
    }

    pub(super) fn float(mut self, field: u64, value: f32) -> Self {
        if value != 0.0 {
            self.key(field, 5);
            self.0.extend(value.to_le_bytes());
        }
        self
    }

    pub(super) fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        if !value.is_empty() {
            self.put_bytes(field, value);
        }
        self
    }

    pub(super) fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// Written even when it is empty.
    pub(super) fn message(mut self, field: u64, value: &Message) -> Self {
        self.put_message(field, value);
        self
    }

    pub(super) fn put_message(&mut self, field: u64, value: &Message) {
        self.put_bytes(field, &value.0);
    }

    /// The fields of another message behind those of this one.
    pub(super) fn then(mut self, more: &Message) -> Self {
        self.0.extend(&more.0);
        self
    }

    pub(super) fn messages<'a>(self, field: u64, values: impl IntoIterator<Item = &'a Message>) -> Self {
        values.into_iter().fold(self, |message, value| message.message(field, value))
    }

    pub(super) fn texts(mut self, field: u64, values: &[&str]) -> Self {
        values.iter().for_each(|value| self.put_bytes(field, value.as_bytes()));
        self
    }

    /// One field a value.
    pub(super) fn ints(mut self, field: u64, values: impl IntoIterator<Item = i64>) -> Self {
        values.into_iter().for_each(|value| self.put_int(field, value));
        self
    }

    /// All values in one field.
    pub(super) fn packed_ints(self, field: u64, values: &[i64]) -> Self {
        let mut packed = Self::default();
        values.iter().for_each(|value| packed.varint(*value as u64));
        self.bytes(field, &packed.0)
    }

    /// All values in one field.
    pub(super) fn packed_floats(self, field: u64, values: &[f32]) -> Self {
        let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(field, &packed)
    }

    fn put_int(&mut self, field: u64, value: i64) {
        self.key(field, 0);
        self.varint(value as u64);
    }

    fn put_bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
    /// Numbers of fixed width, which only attributes have.
    Fixed,
}

/// The fields of a message by number, in the order of the file; ends early at bytes that are no field.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Int(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_back() {
        let inner = Message::default().int(1, -1).text(2, "name").packed_ints(8, &[1, 300]);
        let bytes = Message::default().int(1, 300).float(2, 0.5).message(15, &inner).int(3, 0).into_bytes();
        let fields: Vec<_> = Fields(&bytes).collect();
        assert_eq!(
            fields,
            [(1, Value::Int(300)), (2, Value::Fixed), (15, Value::Bytes(&inner.clone().into_bytes()))]
        );
        let inner = inner.into_bytes();
        let inner: Vec<_> = Fields(&inner).collect();
        assert_eq!(
            inner,
            [(1, Value::Int(u64::MAX)), (2, Value::Bytes(b"name")), (8, Value::Bytes(&[1, 0xac, 2]))]
        );
        assert_eq!(Fields(&bytes[..bytes.len() - 1]).count(), 2, "a field that is cut off ends the message");
        assert_eq!(Fields(&[0xff; 11]).count(), 0);
    }
}
