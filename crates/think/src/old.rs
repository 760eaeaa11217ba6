//! Tokens of a head in the form of a policy, page by page.

use compress_numerics::kernels::{HEADER, exponentials};

use crate::{form::Form, integers::GROUP, rows::PAGE, tiles::Tiles};

/// Keys and values of old tokens: those of the prompt, and then those that were folded.
#[derive(Clone, Debug)]
pub struct Old {
    /// d.
    size: usize,
    /// Of keys and of values.
    forms: [Form; 2],
    pages: Vec<Page>,
    /// How many of the pages are the prompt's: means of dropped channels are of its tokens, and count for them only.
    prompt: usize,
}

/// Some neighbouring tokens.
#[derive(Clone, Debug)]
struct Page {
    /// Keys and values.
    tiles: [Tiles; 2],
    tokens: u32,
    /// Tokens that there is memory for.
    most: u32,
}

impl Old {
    /// Keys and values of a prompt's tokens, `size` numbers each, in these forms.
    pub fn new(forms: [Form; 2], [keys, values]: [Vec<f32>; 2], size: usize) -> Self {
        let mut old = Self {
            size,
            forms,
            pages: Vec::new(),
            prompt: 0,
        };
        // No room to spare: a page of the prompt takes no later token, whose form may be another.
        old.append([&keys, &values], |tokens| PAGE.min(tokens));
        old.prompt = old.pages.len();
        old
    }

    pub const fn pages(&self) -> usize {
        self.pages.len()
    }

    pub fn tokens(&self) -> usize {
        self.pages.iter().map(Page::tokens).sum()
    }

    /// Appends tokens behind the prompt, whole groups that come one by one and share a page.
    pub fn extend(&mut self, tokens: [&[f32]; 2]) {
        self.append(tokens, |_| PAGE);
    }

    /// Appends tokens; a new page has memory for as many as `page` says, of the tokens that are left.
    fn append(&mut self, mut rest: [&[f32]; 2], page: impl Fn(usize) -> usize) {
        while rest[0].len() >= self.size {
            let tokens = rest[0].len() / self.size;
            if self.pages.len() == self.prompt || self.room() == 0 {
                self.pages.push(Page::new(&self.forms, page(tokens)));
            }
            let count = tokens.min(self.room());
            if let Some(page) = self.pages.last_mut() {
                page.tokens += count as u32;
                for ((tiles, rest), form) in page.tiles.iter_mut().zip(&mut rest).zip(&self.forms) {
                    let some = rest.split_off(..count * self.size).unwrap_or_default();
                    tiles.extend(&form.layout, &form.stored(some));
                }
            }
        }
    }

    /// Tokens that the last page still takes.
    fn room(&self) -> usize {
        self.pages.last().map_or(0, Page::room)
    }

    /// Attention of some queries over a page, as parts of 2 + d numbers each; see
    /// [`attend_part`](compress_numerics::kernels::attend_part).
    pub fn attend(&self, page: usize, queries: &[f32], parts: &mut [f32]) {
        let [key_form, value_form] = &self.forms;
        let of_prompt = page < self.prompt;
        let page = &self.pages[page];
        let ([keys, values], tokens) = (&page.tiles, page.tokens());
        let constant = |query| {
            if of_prompt {
                key_form.constant(query)
            } else {
                0.0
            }
        };
        let constants = queries.chunks_exact(self.size).map(constant);
        let mut scores: Vec<f32> = constants
            .flat_map(|constant| std::iter::repeat_n(constant, tokens))
            .collect();
        let stored = key_form.stored(queries);
        keys.multiply(&key_form.layout, tokens, &stored, &mut scores);
        let headers: Vec<[f32; HEADER]> =
            scores.chunks_exact_mut(tokens).map(exponentials).collect();
        let width = value_form.layout.width();
        let mut sums = vec![0.0; headers.len() * width];
        values.multiply(&value_form.layout, tokens, &scores, &mut sums);
        let parts = parts.chunks_exact_mut(HEADER + self.size);
        for ((index, header), part) in headers.iter().enumerate().zip(parts) {
            part[..HEADER].copy_from_slice(header);
            // The means are weighted by all exponentials of the part.
            let weight = if of_prompt { header[1] } else { 0.0 };
            let own = &sums[index * width..][..width];
            value_form.put(own, weight, &mut part[HEADER..]);
        }
    }

    /// Keys, or values, with all channels, page after page: what is stored, and for dropped channels their means, or 0.
    pub fn whole(&self, side: usize) -> impl Iterator<Item = Vec<f32>> {
        let (form, pages) = (&self.forms[side], self.pages.iter().enumerate());
        pages.map(move |(index, page)| {
            let stored = page.tiles[side].decoded(&form.layout, page.tokens());
            let weight = if index < self.prompt { 1.0 } else { 0.0 };
            form.whole(&stored, page.tokens(), weight)
        })
    }
}

impl Page {
    /// No tokens yet, with memory for as many.
    fn new(forms: &[Form; 2], most: usize) -> Self {
        Self {
            tiles: forms.each_ref().map(|form| Tiles::new(&form.layout, most)),
            tokens: 0,
            most: most as u32,
        }
    }

    const fn tokens(&self) -> usize {
        self.tokens as usize
    }

    /// How many more tokens it takes: none where the last tiles are not whole.
    const fn room(&self) -> usize {
        if self.tokens().is_multiple_of(GROUP) {
            (self.most - self.tokens) as usize
        } else {
            0
        }
    }
}
