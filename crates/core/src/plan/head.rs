//! What a plan says first: the version of its form, and the kind of its steps.
//!
//! Both are read before the rest, so that a plan of another kind is refused as that, and not for the first
//! field that its steps have otherwise.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, Result, Step};

/// The version of the form in which plans are written; there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version;

impl Version {
    /// Its number.
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

/// Refuses a text whose plan is of another version or kind than those whose steps are `S`.
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

fn other_version(found: &str) -> Error {
    Error::PlanVersion {
        found: found.into(),
        known: Version::NUMBER,
    }
}

fn other_kind<S: Step>(found: &str, maker: &str) -> Error {
    Error::PlanKind {
        found: found.into(),
        wanted: S::KIND,
        maker: maker.into(),
    }
}

/// What is read first; the rest is not looked at.
#[derive(Deserialize)]
struct Head {
    version: Option<serde_json::Value>,
    kind: Option<String>,
    method: Option<String>,
}
