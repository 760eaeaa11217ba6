//! Attention of one new token over a cache that lies in pages.

use compress_numerics::kernels::{HEADER, join_parts};
use compress_think::HeadCache;

/// The queries of one token that share a head of keys and values.
pub struct Newest {
    /// Multiplied by 1/√d: group × d.
    queries: Vec<f32>,
    size: usize,
}

impl Newest {
    /// From queries of `size` channels each.
    pub fn new(mut queries: Vec<f32>, size: usize) -> Self {
        let scale = (size as f32).sqrt().recip();
        queries.iter_mut().for_each(|x| *x *= scale);
        Self { queries, size }
    }

    /// Attention over a cache and the token's own key and value: group × d.
    pub fn attend(&self, past: &HeadCache, key: &[f32], value: &[f32]) -> Vec<f32> {
        let pages = (0..past.pages()).flat_map(|page| self.parts(past, page, 0));
        self.join(&pages.collect::<Vec<_>>(), key, value)
    }

    /// The parts of a page: group × (2 + d).
    pub fn parts(&self, past: &HeadCache, page: usize, unseen: usize) -> Vec<f32> {
        past.attend(page, &self.queries, unseen)
    }

    /// Attention from the parts of all pages, one page after the other, and the token's own key and value: group × d.
    pub fn join(&self, pages: &[f32], key: &[f32], value: &[f32]) -> Vec<f32> {
        let part = HEADER + self.size;
        let group = self.queries.len() / self.size;
        let one = |(index, query): (usize, &[f32])| {
            let of_pages = pages.chunks_exact(part).skip(index).step_by(group);
            let mut parts = of_pages.collect::<Vec<_>>().concat();
            // A part of one token: its score, the exponential of 0, and its value.
            let score: f32 = query.iter().zip(key).map(|(q, k)| q * k).sum();
            parts.extend([score, 1.0].iter().chain(value));
            join_parts(&parts, self.size)
        };
        let queries = self.queries.chunks_exact(self.size).enumerate();
        queries.flat_map(one).collect()
    }
}
