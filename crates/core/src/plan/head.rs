//! The head of a plan: the version of its format, and the kind of its steps.
//!
//! Both are checked before the rest is parsed, so that a plan of another kind is refused with that reason, and not
//! with the first unknown field of its steps.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, Result, Step};

/// The version of the plan format; only one exists. Parsing any other number fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version;

impl Version {
    /// The number in the file.
    pub const NUMBER: u64 = 1;
}

impl Serialize for Version {
    fn serialize<T: Serializer>(&self, serializer: T) -> std::result::Result<T::Ok, T::Error> {
        serializer.serialize_u64(Self::NUMBER)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let found = u64::deserialize(deserializer)?;
        let known = (found == Self::NUMBER).then_some(Self);
        known.ok_or_else(|| de::Error::custom(other_version(&found.to_string())))
    }
}

/// The kind of a plan's steps, [`Step::KIND`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind<S>(PhantomData<S>);

impl<S> Default for Kind<S> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<S: Step> Serialize for Kind<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> std::result::Result<T::Ok, T::Error> {
        serializer.serialize_str(S::KIND)
    }
}

impl<'de, S: Step> Deserialize<'de> for Kind<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let found = String::deserialize(deserializer)?;
        let known = (found == S::KIND).then(Self::default);
        known.ok_or_else(|| de::Error::custom(other_kind::<S>(&found, "the method that made it")))
    }
}

/// Refuses a plan of another version, or of another kind than [`Step::KIND`] of `S`; a text that is not JSON too.
pub fn check<S: Step>(text: &[u8]) -> Result<()> {
    let head: Head = serde_json::from_slice(text).map_err(Error::Plan)?;
    match head.version {
        Some(version) if version == Version::NUMBER => {}
        Some(version) => return Err(other_version(&version.to_string())),
        None => return Err(other_version("none")),
    }
    let maker = head.method.as_deref().unwrap_or("the method that made it");
    match head.kind.as_deref() {
        Some(kind) if kind == S::KIND => Ok(()),
        kind => Err(other_kind::<S>(kind.unwrap_or("none"), maker)),
    }
}

/// The error of a plan in another version.
fn other_version(found: &str) -> Error {
    Error::PlanVersion {
        found: found.into(),
        known: Version::NUMBER,
    }
}

/// The error of a plan with steps of another kind, and the method that carries them out.
fn other_kind<S: Step>(found: &str, maker: &str) -> Error {
    Error::PlanKind {
        found: found.into(),
        wanted: S::KIND,
        maker: maker.into(),
    }
}

/// The fields that are read first; all others are ignored here, and parsed afterwards.
#[derive(Deserialize)]
struct Head {
    // Any JSON value: a version of another type is reported as a version, not as a syntax error.
    version: Option<serde_json::Value>,
    kind: Option<String>,
    method: Option<String>,
}
