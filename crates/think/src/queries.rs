//! Queries that share a head of keys and values, and their attention over its pages.

use compress_numerics::kernels::{HEADER, join_parts};

use crate::HeadCache;

/// Queries of one head of keys and values: those of one token, a group, or of several.
pub struct Queries {
    /// Multiplied by 1/√d: count × d.
    scaled: Vec<f32>,
    size: usize,
}

impl Queries {
    /// From queries of `size` channels each.
    #[must_use]
    pub fn new(mut queries: Vec<f32>, size: usize) -> Self {
        let scale = (size as f32).sqrt().recip();
        queries.iter_mut().for_each(|x| *x *= scale);
        Self {
            scaled: queries,
            size,
        }
    }

    /// The parts of a page: count × (2 + d); see [`HeadCache::attend`].
    #[must_use]
    pub fn parts(&self, past: &HeadCache, page: usize, unseen: usize) -> Vec<f32> {
        past.attend(page, &self.scaled, unseen)
    }

    /// Attention over a cache, and over a token's own key and value where it has some that are not there yet: count × d.
    #[must_use]
    pub fn attend(&self, past: &HeadCache, own: Option<[&[f32]; 2]>) -> Vec<f32> {
        let pages = (0..past.pages()).flat_map(|page| self.parts(past, page, 0));
        self.join(&pages.collect::<Vec<_>>(), own)
    }

    /// The same from the parts of all pages, one page after the other.
    #[must_use]
    pub fn join(&self, pages: &[f32], own: Option<[&[f32]; 2]>) -> Vec<f32> {
        let part = HEADER + self.size;
        let count = self.scaled.len() / self.size;
        let one = |(index, query): (usize, &[f32])| {
            let of_pages = pages.chunks_exact(part).skip(index).step_by(count);
            let mut parts = of_pages.collect::<Vec<_>>().concat();
            if let Some([key, value]) = own {
                // A part of one token: its score, the exponential of 0, and its value.
                let score: f32 = query.iter().zip(key).map(|(q, k)| q * k).sum();
                parts.extend([score, 1.0].iter().chain(value));
            }
            join_parts(&parts, self.size)
        };
        let queries = self.scaled.chunks_exact(self.size).enumerate();
        queries.flat_map(one).collect()
    }
}
