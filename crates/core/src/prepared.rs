//! What several readers of one stream prepare alike, such as a factorisation of its H: made once.

use std::{
    any::{Any, TypeId},
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Result, Stream};

/// A stream, and whether its tokens are weighted.
pub type Key = (Stream, bool);

type Anything = Arc<dyn Any + Send + Sync>;
type Place = Arc<Mutex<Option<Anything>>>;

/// What was prepared for the streams that were asked for last.
///
/// Weights are compressed in the order of the network by each thread, so one stream for each, and one
/// more, is enough; a stream that was let go too early costs time only.
#[derive(Default)]
pub struct Prepared {
    places: Mutex<VecDeque<((Key, TypeId), Place)>>,
}

impl Prepared {
    /// What `make` gives for a key, or gave before. Whoever asks meanwhile waits.
    pub fn get<T: Any + Send + Sync>(
        &self,
        key: Key,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<Arc<T>> {
        let place = self.place((key, TypeId::of::<T>()));
        let mut made = place.lock().unwrap_or_else(PoisonError::into_inner);
        let known = made.clone().map(Arc::downcast::<T>);
        if let Some(Ok(known)) = known {
            return Ok(known);
        }
        let new = Arc::new(make()?);
        *made = Some(new.clone());
        Ok(new)
    }

    fn place(&self, key: (Key, TypeId)) -> Place {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let known = places.iter().position(|(other, _)| *other == key);
        let place = known.and_then(|index| places.remove(index));
        let (_, place) = place.unwrap_or_else(|| (key, Place::default()));
        places.truncate(rayon::current_num_threads());
        places.push_front((key, place.clone()));
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, Inlet, Site};

    fn stream(layer: usize) -> Key {
        (Stream::new(layer, Inlet::Attention), false)
    }

    #[test]
    fn neighbours_get_what_the_first_has_made() {
        let prepared = Prepared::default();
        let get = |layer, value: usize| prepared.get(stream(layer), || Ok(value)).unwrap();
        assert_eq!(*get(1, 10), 10);
        assert_eq!(*get(1, 11), 10);
        assert_eq!(*get(2, 20), 20);
        let other = prepared.get(stream(1), || Ok("another kind")).unwrap();
        assert_eq!(*other, "another kind");
    }

    #[test]
    fn what_could_not_be_made_is_tried_again() {
        let prepared = Prepared::default();
        let site = Site::new(0, crate::Role::Query);
        let failed = prepared.get::<usize>(stream(1), || Err(Error::NoSuchSite { site }));
        assert!(failed.is_err());
        assert_eq!(*prepared.get(stream(1), || Ok(3)).unwrap(), 3);
    }

    #[test]
    fn few_streams_are_kept() {
        let prepared = Prepared::default();
        let mut made = 0;
        for _ in 0..2 {
            for layer in 0..=rayon::current_num_threads() + 1 {
                let make = || {
                    made += 1;
                    Ok(layer)
                };
                prepared.get(stream(layer), make).unwrap();
            }
        }
        assert_eq!(made, 2 * (rayon::current_num_threads() + 2));
    }
}
