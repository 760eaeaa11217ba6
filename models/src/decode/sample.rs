//! Which token follows: the most likely one, or one drawn at random among the likely.
//!
//! ```text
//! p = softmax(logits / temperature),  cut to the top k, then to the smallest set of mass ≥ top p (nucleus, Holtzman et
//! al., arXiv 1904.09751), then to those of p ≥ min p · max p (Nguyen et al., arXiv 2407.01082)
//! ```
//!
//! The order of the cuts is that of transformers.

use compress_numerics::Random;

/// How tokens are drawn.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// 0 takes the most likely token, whatever else is set; 1 draws by the model's own probabilities.
    pub temperature: f32,
    /// How many of the most likely tokens may be drawn; none: all.
    pub top_k: Option<usize>,
    /// The mass that the tokens which may be drawn have together, at least; 1 for all of it.
    pub top_p: f32,
    /// The probability of a token that may be drawn, at least, as a share of that of the most likely; 0 for any.
    pub min_p: f32,
    random: Random,
}

impl Sampler {
    /// Takes the most likely token.
    #[must_use]
    pub const fn greedy() -> Self {
        Self::new(0.0, 0)
    }

    /// Draws by probabilities at a temperature; the same tokens for the same seed.
    #[must_use]
    pub const fn new(temperature: f32, seed: u64) -> Self {
        Self {
            temperature,
            top_k: None,
            top_p: 1.0,
            min_p: 0.0,
            random: Random(seed),
        }
    }

    /// The next token from its logits; none where one of them is not finite.
    pub fn draw(&mut self, logits: &[f32]) -> Option<u32> {
        if logits.is_empty() || logits.iter().any(|x| !x.is_finite()) {
            return None;
        }
        if self.temperature <= 0.0 {
            return Some(most_likely(logits));
        }
        let candidates = self.candidates(logits);
        let mass: f64 = candidates.iter().map(|(_, p)| p).sum();
        let mut rest = f64::from(self.random.uniform()) * mass;
        let drawn = candidates.iter().find(|(_, p)| {
            rest -= p;
            rest < 0.0
        });
        // The last one, where rounding has left a rest.
        drawn.or(candidates.last()).map(|(token, _)| *token)
    }

    /// The tokens that may be drawn, most likely first, and exponentials in proportion to their probabilities.
    fn candidates(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let by_logit = |a: &u32, b: &u32| {
            // Of equal logits the first token comes first.
            let falling = logits[*b as usize].total_cmp(&logits[*a as usize]);
            falling.then(a.cmp(b))
        };
        if let Some(k) = self.top_k.filter(|k| (1..order.len()).contains(k)) {
            order.select_nth_unstable_by(k - 1, by_logit);
            order.truncate(k);
        }
        order.sort_unstable_by(by_logit);
        let most = order.first().map_or(0.0, |&token| logits[token as usize]);
        let likelihood = |token: u32| {
            let shifted = f64::from(logits[token as usize] - most);
            (token, (shifted / f64::from(self.temperature)).exp())
        };
        let mut all: Vec<(u32, f64)> = order.into_iter().map(likelihood).collect();
        let mut missing = f64::from(self.top_p) * all.iter().map(|(_, p)| p).sum::<f64>();
        let within = all.iter().take_while(|(_, p)| {
            let taken = missing > 0.0;
            missing -= p;
            taken
        });
        let count = within.count().max(1);
        all.truncate(if self.top_p < 1.0 { count } else { all.len() });
        all.retain(|(_, p)| *p >= f64::from(self.min_p)); // the most likely has 1
        all
    }
}

/// The token with the largest logit; the first of equal ones.
fn most_likely(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, x) in logits.iter().enumerate() {
        if *x > logits[best] {
            best = token;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities 0.5, 0.25, 0.15, 0.1 for the tokens 2, 0, 3, 1.
    fn logits() -> Vec<f32> {
        [0.25_f32, 0.1, 0.5, 0.15].map(f32::ln).to_vec()
    }

    fn shares(mut sampler: Sampler) -> [f64; 4] {
        let mut counts = [0.0; 4];
        for _ in 0..20_000 {
            counts[sampler.draw(&logits()).unwrap() as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn near(found: [f64; 4], expected: [f64; 4]) {
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 0.015, "{found:?}, not {expected:?}");
        }
    }

    #[test]
    fn tokens_are_drawn_by_their_probabilities() {
        near(shares(Sampler::new(1.0, 1)), [0.25, 0.1, 0.5, 0.15]);
        // At half the temperature by their squares.
        let squares = [0.0625, 0.01, 0.25, 0.0225].map(|p| p / 0.345);
        near(shares(Sampler::new(0.5, 1)), squares);
        near(shares(Sampler::greedy()), [0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn cuts_leave_the_likely_ones() {
        let cut = |set: fn(&mut Sampler)| {
            let mut sampler = Sampler::new(1.0, 1);
            set(&mut sampler);
            shares(sampler)
        };
        let two = [1.0 / 3.0, 0.0, 2.0 / 3.0, 0.0];
        near(cut(|s| s.top_k = Some(2)), two);
        near(cut(|s| s.top_p = 0.7), two);
        near(cut(|s| s.min_p = 0.4), two);
        let three = [0.25, 0.0, 0.5, 0.15].map(|p| p / 0.9);
        near(cut(|s| s.top_p = 0.76), three);
        near(cut(|s| s.top_p = 0.0), [0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let draw = |seed| {
            let mut sampler = Sampler::new(1.0, seed);
            (0..50).map(|_| sampler.draw(&logits())).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn a_logit_that_is_not_finite_is_refused() {
        assert_eq!(Sampler::new(1.0, 1).draw(&[1.0, f32::NAN]), None);
        assert_eq!(Sampler::greedy().draw(&[]), None);
    }
}
