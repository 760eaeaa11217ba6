//! The wire format of protocol buffers: fields by number, bounds-checked.
//!
//! ```text
//! field     key (varint: number << 3 | wire type), then by wire type
//! 0         a varint: groups of 7 bits, the least first, the top bit set in all but the last byte
//! 1, 5      8 or 4 bytes, little endian
//! 2         a length (varint) and so many bytes: a string, bytes, or a message
//! ```

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'b> {
    /// A whole number, truth value or enumerator.
    Varint(u64),
    /// Four bytes, as of an `f32`.
    Fixed32([u8; 4]),
    /// Eight bytes.
    Fixed64,
    /// A string, bytes or a message.
    Bytes(&'b [u8]),
}

/// The fields of a message, in the order of the file. After an error there are no more.
pub struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    /// The fields of the message in `bytes`.
    pub const fn of(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    fn field(&mut self) -> Result<(u64, Value<'b>), &'static str> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(self.take(4)?.try_into().map_err(|_| CUT_SHORT)?),
            // Groups, which newer files do not have, and two numbers that mean nothing.
            _ => return Err("a field has an unknown wire type"),
        };
        Ok((key >> 3, value))
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, left) = self.0.split_first().ok_or(CUT_SHORT)?;
            self.0 = left;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number is longer than 64 bits")
    }

    fn take(&mut self, length: u64) -> Result<&'b [u8], &'static str> {
        // Compared before anything is set aside: a length may be any number.
        let length = usize::try_from(length).map_err(|_| CUT_SHORT)?;
        let (bytes, left) = self.0.split_at_checked(length).ok_or(CUT_SHORT)?;
        self.0 = left;
        Ok(bytes)
    }
}

const CUT_SHORT: &str = "it ends inside a field";

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u64, Value<'b>), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_field_is_read() {
        let bytes = b"\x08\xac\x02\x15\x00\x00\x80\x3f\x19aaaaaaaa\x22\x02hi";
        let fields: Result<Vec<_>, _> = Fields::of(bytes).collect();
        let one = Value::Fixed32(1_f32.to_le_bytes());
        let expected = vec![
            (1, Value::Varint(300)),
            (2, one),
            (3, Value::Fixed64),
            (4, Value::Bytes(b"hi")),
        ];
        assert_eq!(fields, Ok(expected));
    }

    #[test]
    fn hostile_lengths_and_numbers_are_refused() {
        let long = [&[0x0a][..], &[0xff; 8], &[0x0f]].concat(); // 2⁶⁰ − 1 bytes
        let endless = [0xff; 11];
        for bytes in [
            b"\x0a\x05hi".as_slice(),
            b"\x08",
            b"\x0d\x01",
            &long,
            &endless,
            b"\x0b",
        ] {
            assert!(
                Fields::of(bytes).last().is_some_and(|it| it.is_err()),
                "{bytes:?}"
            );
        }
    }
}
