//! Tokens of a head in the form of a policy, page by page.

use compress_numerics::kernels::{HEADER, exponentials};

use crate::{
    form::Form,
    rows::PAGE,
    tiles::{Along, Tiles},
};

/// Keys and values of old tokens: those of the prompt, and then those that were folded.
#[derive(Clone, Debug)]
pub struct Old {
    /// d.
    size: usize,
    /// Keys and values of the prompt's tokens.
    forms: [Form; 2],
    /// Those of tokens behind it.
    later: [Form; 2],
    pages: Vec<[Tiles; 2]>,
    /// How many of the pages are the prompt's.
    prompt: usize,
}

impl Old {
    /// Keys and values of a prompt's tokens, `size` numbers each, in these forms.
    pub fn new(forms: [Form; 2], [keys, values]: [Vec<f32>; 2], size: usize) -> Self {
        let mut old = Self {
            size,
            later: forms.each_ref().map(Form::without_means),
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
        self.pages.iter().map(|[keys, _]| keys.tokens()).sum()
    }

    /// The forms of a page's keys and values.
    fn forms_of(&self, page: usize) -> &[Form; 2] {
        if page < self.prompt {
            &self.forms
        } else {
            &self.later
        }
    }

    /// Appends tokens behind the prompt, whole groups of 32 that come one by one and share a page.
    pub fn extend(&mut self, tokens: [&[f32]; 2]) {
        self.append(tokens, |_| PAGE);
    }

    /// Appends tokens; a new page has memory for as many as `page` says, of the tokens that are left.
    fn append(&mut self, mut rest: [&[f32]; 2], page: impl Fn(usize) -> usize) {
        while rest[0].len() >= self.size {
            let tokens = rest[0].len() / self.size;
            if self.pages.len() == self.prompt || self.room() == 0 {
                let ([keys, values], most) = (&self.forms, page(tokens));
                self.pages.push([
                    Tiles::new(keys.format, Along::Channels, keys.width(), most),
                    Tiles::new(values.format, Along::Tokens, values.width(), most),
                ]);
            }
            let count = tokens.min(self.room()) * self.size;
            if let Some(page) = self.pages.last_mut() {
                for ((tiles, rest), form) in page.iter_mut().zip(&mut rest).zip(&self.forms) {
                    let some = rest.split_off(..count).unwrap_or_default();
                    tiles.extend(&form.stored(some));
                }
            }
        }
    }

    /// Tokens that the last page still takes.
    fn room(&self) -> usize {
        let last = self.pages.last();
        last.map_or(0, |[keys, values]| keys.room().min(values.room()))
    }

    /// Attention of some queries over a page, as parts of 2 + d numbers each; see
    /// [`attend_part`](compress_numerics::kernels::attend_part).
    pub fn attend(&self, page: usize, queries: &[f32], parts: &mut [f32]) {
        let [key_form, value_form] = self.forms_of(page);
        let [keys, values] = &self.pages[page];
        let (tokens, width) = (keys.tokens(), value_form.width());
        let constants = queries
            .chunks_exact(self.size)
            .map(|query| key_form.constant(query));
        let mut scores: Vec<f32> = constants
            .flat_map(|constant| std::iter::repeat_n(constant, tokens))
            .collect();
        keys.multiply(&key_form.stored(queries), &mut scores);
        let headers: Vec<[f32; HEADER]> =
            scores.chunks_exact_mut(tokens).map(exponentials).collect();
        let mut sums = vec![0.0; headers.len() * width];
        values.multiply(&scores, &mut sums);
        let parts = parts.chunks_exact_mut(HEADER + self.size);
        for ((header, sums), part) in headers.iter().zip(sums.chunks_exact(width)).zip(parts) {
            value_form.put_back(*header, sums, part);
        }
    }

    /// Keys, or values, with all channels, page after page: what is stored, and for dropped channels their means, or 0.
    pub fn whole(&self, side: usize) -> impl Iterator<Item = Vec<f32>> {
        let pages = self.pages.iter().enumerate();
        pages.map(move |(index, page)| self.forms_of(index)[side].whole(page[side].decoded()))
    }
}
