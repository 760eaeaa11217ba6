//! The cache of one head: keys and values of its tokens, old ones in the form of a policy, the newest whole.

use std::cell::RefCell;

use compress_numerics::kernels::{HEADER, attend_part, multiply_rows};

use crate::{
    Format, LayerPolicy, Queries, channel_scores,
    evict::attended,
    form::Form,
    integers::GROUP,
    rows::{PAGE, Rows},
    score::mean_squares,
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
    /// The newest tokens, whole.
    new: Vec<Page>,
    /// The format of the newest.
    newest: Format,
    /// How many tokens stay whole while others are added; none where all of them do.
    recent: Option<usize>,
}

/// Keys and values of neighbouring tokens.
type Page = [Rows; 2];

/// Tokens in the form of a policy.
#[derive(Clone, Debug)]
struct Old {
    /// Keys and values of the prompt's tokens.
    forms: [Form; 2],
    /// Those of tokens behind it.
    later: [Form; 2],
    pages: Vec<Page>,
    /// How many of the pages are the prompt's.
    prompt: usize,
}

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
            newest: Format::F32,
            recent: None,
        }
    }

    /// Appends the keys and values of tokens, each tokens × d, row after row; keys after the rotary embedding.
    pub fn extend(&mut self, keys: &[f32], values: &[f32]) {
        let mut rest = [keys, values];
        while !rest[0].is_empty() {
            if room(&self.new) == 0 {
                let page = self.next_page(rest[0].len() / self.size);
                let empty = || Rows::new(self.newest, self.size, page);
                self.new.push([empty(), empty()]);
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

    /// Tokens that the next page of new tokens has room for, of which `given` are there already.
    fn next_page(&self, given: usize) -> usize {
        // What is to be folded is folded by whole pages.
        if self.recent.is_some() {
            return GROUP;
        }
        // Room that stays empty is no more than an eighth of the cache.
        let wanted = given.max(self.tokens() / 8).next_multiple_of(GROUP);
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
        let old = tokens.saturating_sub(policy.recent);
        let scores = channel_scores(&queries.concat(), &keys, self.size);
        // Of values the largest channels matter most, whatever the query. All of the prompt counts, the newest tokens too:
        // where tokens fold there may be no old ones yet.
        let forms = [
            Form::new(policy.keys, &scores, &keys),
            Form::new(policy.values, &mean_squares(&values, self.size), &values),
        ];
        let count = (policy.tokens * old as f64).ceil() as usize;
        let stay = if count < old {
            attended(queries, &keys, self.size, old, count)
        } else {
            (0..old).collect()
        };
        let picked = |rows: &[f32]| -> Vec<f32> {
            let row = |&token: &usize| &rows[token * self.size..][..self.size];
            stay.iter().flat_map(row).copied().collect()
        };
        let mut thinned = Old {
            later: forms.each_ref().map(Form::without_means),
            forms,
            pages: Vec::new(),
            prompt: 0,
        };
        thinned.extend([&picked(&keys), &picked(&values)], self.size);
        thinned.prompt = thinned.pages.len();
        self.old = Some(Box::new(thinned));
        self.newest = policy.newest();
        self.recent = policy.fold.then_some(policy.recent);
        self.new = Vec::new();
        self.extend(&keys[old * self.size..], &values[old * self.size..]);
    }

    /// Pages in it. Attention reads them one by one.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.old_pages().len() + self.new.len()
    }

    fn old_pages(&self) -> &[Page] {
        self.old.as_ref().map_or(&[], |old| &old.pages)
    }

    /// Tokens in it; those that were left out are not counted.
    #[must_use]
    pub fn tokens(&self) -> usize {
        let pages = self.old_pages().iter().chain(&self.new);
        pages.map(|[keys, _]| keys.tokens()).sum()
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
        if let Some(old) = self.old.as_ref().filter(|old| page < old.pages.len()) {
            let forms = old.forms_of(page);
            let [keys, values] = &old.pages[page];
            let (keys, values) = (keys.decoded(first), values.decoded(second));
            for (query, part) in pairs {
                forms[0].attend(query, keys, (values, &forms[1]), part);
            }
            return parts;
        }
        let index = page - self.old_pages().len();
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

    /// Keys and values with all channels, tokens × d: what is stored, and for dropped channels their means, or 0.
    #[must_use]
    pub fn whole(&self) -> [Vec<f32>; 2] {
        let stored = |page: &Page, side: usize| page[side].decoded(&mut Vec::new()).to_vec();
        [0, 1].map(|side| {
            let old = self.old.iter().flat_map(|old| {
                let pages = old.pages.iter().enumerate();
                pages.map(|(index, page)| old.forms_of(index)[side].whole(stored(page, side)))
            });
            let new = self.new.iter().map(|page| stored(page, side));
            old.chain(new).collect::<Vec<_>>().concat()
        })
    }

    /// Makes the oldest of the newest tokens old, a group at a time, while enough others stay whole.
    fn fold(&mut self) {
        let (Some(recent), Some(old)) = (self.recent, &mut self.old) else {
            return;
        };
        let whole = |new: &[Page]| new.iter().map(|[keys, _]| keys.tokens()).sum::<usize>();
        while whole(&self.new) >= recent.saturating_add(GROUP) {
            let page = self.new.remove(0);
            let [keys, values] = page.map(|rows| rows.decoded(&mut Vec::new()).to_vec());
            old.extend([&keys, &values], self.size);
        }
    }
}

impl Old {
    /// The forms of a page's keys and values.
    fn forms_of(&self, page: usize) -> &[Form; 2] {
        if page < self.prompt {
            &self.forms
        } else {
            &self.later
        }
    }

    /// Appends tokens of `size` channels: those of the prompt as long as `prompt` is 0, then groups of later ones.
    fn extend(&mut self, mut rest: [&[f32]; 2], size: usize) {
        while !rest[0].is_empty() {
            let tokens = rest[0].len() / size;
            // A page of the prompt takes no later token, whose form may be another.
            if self.pages.len() == self.prompt || room(&self.pages) == 0 {
                // Groups come one by one, and share a page; of a prompt a page has no room to spare.
                let page = if self.prompt > 0 {
                    PAGE
                } else {
                    PAGE.min(tokens)
                };
                let empty = |form: &Form| Rows::new(form.format, form.width(), page);
                self.pages.push(self.forms.each_ref().map(empty));
            }
            let count = tokens.min(room(&self.pages)) * size;
            if let Some(page) = self.pages.last_mut() {
                for ((rows, rest), form) in page.iter_mut().zip(&mut rest).zip(&self.forms) {
                    let some = rest.split_off(..count).unwrap_or_default();
                    rows.extend(&form.stored(some));
                }
            }
        }
    }
}

/// Tokens that the last of some pages still takes.
fn room(pages: &[Page]) -> usize {
    let last = pages.last();
    last.map_or(0, |[keys, values]| keys.room().min(values.room()))
}

impl Form {
    /// Attention of one query over keys in this form, and values in their own: a part of 2 + d numbers.
    fn attend(
        &self,
        query: &[f32],
        keys: &[f32],
        (values, form): (&[f32], &Self),
        part: &mut [f32],
    ) {
        let constant = self.constant(query);
        let query = self.stored(query);
        let mut scores = vec![0.0; keys.len() / query.len().max(1)];
        multiply_rows(keys, &query, &mut scores);
        scores.iter_mut().for_each(|score| *score += constant);
        let mut narrow = vec![0.0; HEADER + form.width()];
        attend_part(&mut scores, values, &mut narrow);
        form.put_back(&narrow, part);
    }
}
