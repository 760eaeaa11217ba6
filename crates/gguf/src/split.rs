//! Models that are split into several files, each with a header of its own.
//!
//! ```text
//! split.no               which part a file is, from 0 on
//! split.count            how many parts there are
//! split.tensors.count    how many tensors all parts have together
//! ```
//!
//! The first part has the metadata of the model; the others have these keys and tensors only.

use std::collections::btree_map::Entry as Slot;

use crate::metadata::needed;
use crate::{Error, Gguf};

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// Which part of a model a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 0 on.
    pub number: usize,
    /// How many parts the model has, at least two.
    pub count: usize,
}

impl Gguf {
    /// Which part of a split model this is; none for a whole model. Fails where the number is
    /// missing or not below the count.
    pub fn part(&self) -> Result<Option<Part>, Error> {
        // Programs that put parts together again leave a count of 0.
        let Some(count) = self.whole(COUNT)?.filter(|count| *count > 1) else {
            return Ok(None);
        };
        let number = needed(NUMBER, self.whole(NUMBER)?)?;
        if number >= count {
            return Err(Error::Part {
                part: number,
                problem: format!("its {COUNT} is {count}, and parts count from 0"),
            });
        }
        Ok(Some(Part { number, count }))
    }

    /// Puts the parts of a model together, all of them in their order: the metadata of the first,
    /// and the tensors of all, each with the number of its part.
    ///
    /// Fails where a part is not the one that its place says, another number of parts or tensors
    /// belongs to the model, or two parts have a tensor of the same name.
    pub fn join(parts: Vec<Self>) -> Result<Self, Error> {
        let count = parts.len();
        let mut whole: Option<Self> = None;
        for (number, part) in parts.into_iter().enumerate() {
            check(&part, Part { number, count })?;
            whole = Some(match whole {
                None => part,
                Some(whole) => whole.with(part, number)?,
            });
        }
        let whole = whole.ok_or(Error::Part {
            part: 0,
            problem: "it is missing".to_owned(),
        })?;
        // Files from before the key existed name no number.
        match whole.whole(TENSORS)? {
            Some(expected) if expected != whole.tensors().len() => Err(Error::Part {
                part: 0,
                problem: format!(
                    "its {TENSORS} is {expected}, but all parts together have {}",
                    whole.tensors().len()
                ),
            }),
            _ => Ok(whole),
        }
    }

    /// Adds the tensors of a further part.
    fn with(mut self, part: Self, number: usize) -> Result<Self, Error> {
        for (name, mut tensor) in part.tensors {
            tensor.part = number;
            match self.tensors.entry(name) {
                Slot::Occupied(slot) => {
                    return Err(Error::DuplicateTensor {
                        tensor: slot.key().clone(),
                    });
                }
                Slot::Vacant(slot) => slot.insert(tensor),
            };
        }
        // The tensor of divisors is in one part only.
        self.divisors.extend(part.divisors);
        Ok(self)
    }
}

/// Fails unless a file is the part that is expected in its place.
fn check(found: &Gguf, expected: Part) -> Result<(), Error> {
    match found.part()? {
        Some(part) if part == expected => Ok(()),
        Some(part) => Err(Error::Part {
            part: expected.number,
            problem: format!(
                "in its place is part {} of {}, counted from 0",
                part.number, part.count
            ),
        }),
        // A whole model is its own only part.
        None if expected.count == 1 => Ok(()),
        None => Err(Error::Part {
            part: expected.number,
            problem: format!("in its place is a whole model, without {COUNT}"),
        }),
    }
}
