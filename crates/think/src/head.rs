//! The cache of one head: keys and values of its tokens, old ones in the form of a policy, the newest whole.

use std::cell::RefCell;

use compress_numerics::kernels::{HEADER, attend_part, multiply_rows};

use crate::{
    LayerPolicy, Queries, channel_scores,
    evict::attended,
    form::Form,
    integers::GROUP,
    old::Old,
    rows::{PAGE, Rows},
    score::mean_squares,
    tiles::Along,
};

/// Keys and values of one head, page by page.
///
/// Tokens are appended whole. Behind a prompt [`thin`](Self::thin) gives the old ones the form of a policy; a policy that
/// folds does so with later tokens as they age.
#[derive(Clone, Debug)]
pub struct HeadCache {
    /// d.
    size: usize,
    /// Old tokens; none before a policy was applied.
    old: Option<Box<Old>>,
    /// The first tokens and then the newest, whole.
    new: Vec<Page>,
    /// How many pages of them are of first tokens, which stay.
    first: usize,
    /// Whether the newest are floats of 16 bits.
    half: bool,
    /// How many tokens stay whole while others are added; none where all of them do.
    recent: Option<usize>,
}

/// Tokens of the smallest page of new ones; a group has several.
const FEW: usize = 32;

/// Keys and values of neighbouring tokens.
type Page = [Rows; 2];

thread_local! {
    /// Where this thread decodes keys and values: a page of each, which would else be allocated and cleared for each page
    /// that is read.
    static BUFFERS: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

impl HeadCache {
    /// An empty cache of a head with `size` channels.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self {
            size,
            old: None,
            new: Vec::new(),
            first: 0,
            half: false,
            recent: None,
        }
    }

    /// Appends the keys and values of tokens, each tokens × d, row after row; keys after the rotary embedding.
    pub fn extend(&mut self, keys: &[f32], values: &[f32]) {
        let mut rest = [keys, values];
        while rest[0].len() >= self.size {
            if room(&self.new) == 0 {
                let tokens = self.next_page(rest[0].len() / self.size);
                self.new.push(self.page(tokens));
            }
            let count = rest[0].len().min(room(&self.new) * self.size);
            if let Some(page) = self.new.last_mut() {
                for (rows, rest) in page.iter_mut().zip(&mut rest) {
                    rows.extend(rest.split_off(..count).unwrap_or_default());
                }
            }
            self.fold();
        }
    }

    /// A page of no tokens, with room for some.
    fn page(&self, tokens: usize) -> Page {
        [0, 1].map(|_| Rows::new(self.half, self.size, tokens))
    }

    /// Tokens that the next page of new tokens has room for, of which `given` are there already.
    fn next_page(&self, given: usize) -> usize {
        // What is to be folded is folded by whole pages.
        if self.recent.is_some() {
            return FEW;
        }
        // Room that stays empty is no more than an eighth of the cache.
        let wanted = given.max(self.tokens() / 8).next_multiple_of(FEW);
        wanted.min(PAGE)
    }

    /// Applies a policy to the tokens so far, which are a prompt.
    ///
    /// `queries` are those of each query head that reads these keys, for the prompt's last `window` tokens, or all where it
    /// has fewer: rows of d channels, after the rotary embedding. A second call does nothing.
    pub fn thin(&mut self, queries: &[&[f32]], policy: &LayerPolicy) {
        if policy.keeps_all() || self.old.is_some() {
            return;
        }
        let [keys, values] = self.whole();
        let tokens = keys.len() / self.size;
        let sinks = policy.sinks.min(tokens);
        let old = sinks..tokens.saturating_sub(policy.recent).max(sinks);
        // All of the prompt counts, the newest tokens too: where tokens fold there may be no old ones yet. Sinks do not,
        // unless there is nothing else.
        let counted = if sinks < tokens { sinks * self.size } else { 0 };
        let scores = channel_scores(&queries.concat(), &keys[counted..], self.size);
        // Of values the largest channels matter most, whatever the query.
        let largest = mean_squares(&values[counted..], self.size);
        let forms = [
            Form::new(policy.keys, Along::Channels, &scores, &keys[counted..]),
            Form::new(policy.values, Along::Tokens, &largest, &values[counted..]),
        ];
        let count = (policy.tokens * old.len() as f64).ceil() as usize;
        let stay = if count < old.len() {
            attended(queries, &keys, self.size, old.clone(), count)
        } else {
            old.clone().collect()
        };
        let picked = |rows: &[f32]| -> Vec<f32> {
            let row = |&token: &usize| &rows[token * self.size..][..self.size];
            stay.iter().flat_map(row).copied().collect()
        };
        let prompt = [picked(&keys), picked(&values)];
        self.old = Some(Box::new(Old::new(forms, prompt, self.size)));
        self.half = policy.newest_in_half();
        self.recent = policy.fold.then_some(policy.recent);
        self.new = Vec::new();
        if sinks > 0 {
            self.new.push(self.page(sinks));
            self.first = 1;
        }
        for tokens in [0..sinks, old.end..tokens] {
            let rows = tokens.start * self.size..tokens.end * self.size;
            self.extend(&keys[rows.clone()], &values[rows]);
        }
    }

    /// Pages in it. Attention reads them one by one.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.old_pages() + self.new.len()
    }

    fn old_pages(&self) -> usize {
        self.old.as_ref().map_or(0, |old| old.pages())
    }

    /// Tokens in it; those that were left out are not counted.
    #[must_use]
    pub fn tokens(&self) -> usize {
        let old = self.old.as_ref().map_or(0, |old| old.tokens());
        let new = self.new.iter().map(|[keys, _]| keys.tokens());
        old + new.sum::<usize>()
    }

    /// Attention of some queries over a page, as parts of 2 + d numbers each (see
    /// [`attend_part`](compress_numerics::kernels::attend_part)).
    ///
    /// Queries are d numbers each, multiplied by 1/√d. The first `unseen` tokens of the cache count as absent; that is for
    /// sliding windows over caches without a policy.
    #[must_use]
    pub fn attend(&self, page: usize, queries: &[f32], unseen: usize) -> Vec<f32> {
        BUFFERS.with_borrow_mut(|buffers| self.attend_in(buffers, page, queries, unseen))
    }

    /// The same, with buffers for keys and values that have to be decoded.
    fn attend_in(
        &self,
        [first, second]: &mut [Vec<f32>; 2],
        page: usize,
        queries: &[f32],
        unseen: usize,
    ) -> Vec<f32> {
        let mut parts = vec![0.0; queries.len() / self.size * (HEADER + self.size)];
        let pairs = queries.chunks_exact(self.size);
        let pairs = pairs.zip(parts.chunks_exact_mut(HEADER + self.size));
        if let Some(old) = self.old.as_ref().filter(|old| page < old.pages()) {
            old.attend(page, queries, &mut parts);
            return parts;
        }
        let index = page - self.old_pages();
        let before = self.new[..index].iter().map(|[keys, _]| keys.tokens());
        let hidden = unseen.saturating_sub(before.sum()) * self.size;
        let [keys, values] = &self.new[index];
        let decoded = [keys.decoded(first), values.decoded(second)];
        let [keys, values] = decoded.map(|rows| &rows[hidden.min(rows.len())..]);
        for (query, part) in pairs {
            let mut scores = vec![0.0; keys.len() / self.size];
            multiply_rows(keys, query, &mut scores);
            if scores.is_empty() {
                // Weighs nothing beside any other part.
                part[0] = f32::NEG_INFINITY;
            } else {
                attend_part(&mut scores, values, part);
            }
        }
        parts
    }

    /// Σ softmax(K q / √d) V over the tokens of the cache, of each of some queries of d channels, page after page on the
    /// calling thread.
    #[must_use]
    pub fn attention(&self, queries: &[f32]) -> Vec<f32> {
        Queries::new(queries.to_vec(), self.size).attend(self, None)
    }

    /// Keys and values with all channels, tokens × d: what is stored, and for dropped channels their means, or 0. Old tokens
    /// come first, then sinks, then the newest.
    #[must_use]
    pub fn whole(&self) -> [Vec<f32>; 2] {
        let new = |side: usize| {
            let pages = self.new.iter();
            pages.map(move |page| page[side].decoded(&mut Vec::new()).to_vec())
        };
        [0, 1].map(|side| {
            let old = self.old.iter().flat_map(|old| old.whole(side));
            old.chain(new(side)).collect::<Vec<_>>().concat()
        })
    }

    /// Makes the oldest of the newest tokens old, a group at a time, while enough others stay whole.
    fn fold(&mut self) {
        let (Some(recent), Some(old)) = (self.recent, &mut self.old) else {
            return;
        };
        let whole = |new: &[Page]| new.iter().map(|[keys, _]| keys.tokens()).sum::<usize>();
        while whole(&self.new[self.first..]) >= recent.saturating_add(GROUP) {
            let pages = self.new.drain(self.first..self.first + GROUP / FEW);
            let [mut keys, mut values] = [Vec::new(), Vec::new()];
            for page in pages {
                let tokens = page.map(|rows| rows.decoded(&mut Vec::new()).to_vec());
                keys.extend_from_slice(&tokens[0]);
                values.extend_from_slice(&tokens[1]);
            }
            old.extend([&keys, &values]);
        }
    }
}

/// Tokens that the last of some pages still takes.
fn room(pages: &[Page]) -> usize {
    let last = pages.last();
    last.map_or(0, |[keys, values]| keys.room().min(values.room()))
}
