//! Typed access to metadata by key; errors name the key and the expected type.
//!
//! A missing key is none, a value of the wrong type an error: a wrong type is never taken for
//! absence.

use crate::{Error, Gguf, Value};

impl Gguf {
    /// The non-negative integer at `key`, if the key is there.
    pub(crate) fn whole(&self, key: &str) -> Result<Option<usize>, Error> {
        self.typed(key, "a whole number", |value| {
            usize::try_from(value.as_u64()?).ok()
        })
    }

    /// The finite number at `key`, if the key is there.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        self.typed(key, "a finite floating-point number", Value::as_f64)
    }

    /// The boolean at `key`, if the key is there.
    pub(crate) fn truth(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "a truth value", Value::as_bool)
    }

    /// The string at `key`, if the key is there.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        self.typed(key, "a string", Value::as_str)
    }

    /// The list at `key`, if the key is there, each value converted by `item`; an error where one
    /// cannot be. `expected` describes the list in that error.
    pub(crate) fn list<'g, T>(
        &'g self,
        key: &str,
        expected: &'static str,
        item: impl Fn(&'g Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, Error> {
        self.typed(key, expected, |value| {
            value.as_array()?.iter().map(item).collect()
        })
    }

    /// Looks `key` up and converts it by `read`, whose none means a wrong type.
    fn typed<'g, T>(
        &'g self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'g Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.metadata().get(key) else {
            return Ok(None);
        };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::WrongType {
                key: key.to_owned(),
                expected,
            }),
        }
    }
}

/// The value found at `key`, or the error that the metadata lack it.
pub(crate) fn needed<T>(key: &str, found: Option<T>) -> Result<T, Error> {
    found.ok_or_else(|| Error::MissingKey {
        key: key.to_owned(),
    })
}
