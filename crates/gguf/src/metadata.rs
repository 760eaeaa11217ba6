//! Metadata by key and type, with errors that name the key.

use crate::{Error, Gguf, Value};

impl Gguf {
    /// The whole number at `key`, if there is one.
    pub(crate) fn whole(&self, key: &str) -> Result<Option<usize>, Error> {
        self.typed(key, "a whole number", |value| {
            usize::try_from(value.as_u64()?).ok()
        })
    }

    /// The floating-point number at `key`, if there is one.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        self.typed(key, "a finite floating-point number", Value::as_f64)
    }

    /// The truth value at `key`, if there is one.
    pub(crate) fn truth(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "a truth value", Value::as_bool)
    }

    /// The string at `key`, if there is one.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        self.typed(key, "a string", Value::as_str)
    }

    /// The list at `key`, if there is one, each of its values read by `item`.
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

/// The value found at `key`, or the error that it is missing.
pub(crate) fn needed<T>(key: &str, found: Option<T>) -> Result<T, Error> {
    found.ok_or_else(|| Error::MissingKey {
        key: key.to_owned(),
    })
}
