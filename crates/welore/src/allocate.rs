//! Ranks for all weights by one threshold, found for a budget.

use std::{cmp::Ordering, collections::BinaryHeap, str::FromStr};

use compress_core::{Budget, Shape, Site, Truncate};
use serde::Serialize;

/// A weight that ranks are handed out to.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Which weight.
    pub site: Site,
    /// Its shape.
    pub shape: Shape,
    /// What each of its ranks is worth, never increasing.
    pub scores: Vec<f64>,
}

/// What the budget counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// Every rank at m + n parameters, even those of a weight that then stays whole: what that saves
    /// is not spent. For comparison with published figures.
    Ranks,
    /// What is stored: a weight that reaches its break-even rank stays whole and counts m · n.
    Stored,
    /// What is stored; and a weight stays whole as soon as that is worth its price.
    #[default]
    Envelope,
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ranks" => Ok(Self::Ranks),
            "stored" => Ok(Self::Stored),
            "envelope" => Ok(Self::Envelope),
            _ => Err("a budget counts ranks, stored or envelope".into()),
        }
    }
}

/// Ranks that fit a budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// The weights that become low-rank (LRC). Whatever has no step stays whole (N-LRC).
    pub steps: Vec<Truncate>,
    /// The least score that was bought: with any higher threshold the plan is another.
    pub threshold: f64,
}

/// Hands out ranks, the largest score first, until the budget is spent; each weight has rank 1 at least.
///
/// It ends at the first rank that does not fit, so that less than one is left: to pass it over for smaller
/// ones would let a larger budget keep less.
#[must_use]
pub fn allocate(candidates: &[Candidate], budget: Budget, count: Count) -> Allocation {
    allocate_above(f64::NEG_INFINITY, candidates, budget, count)
}

/// The same for scores of at least `threshold`.
fn allocate_above(
    threshold: f64,
    candidates: &[Candidate],
    budget: Budget,
    count: Count,
) -> Allocation {
    let all: usize = candidates.iter().map(|c| c.shape.size()).sum();
    let ones: usize = candidates.iter().map(|c| c.shape.low_rank_size(1)).sum();
    let mut left = ((budget.fraction() * all as f64) as usize).saturating_sub(ones);
    let mut weights: Vec<_> = candidates.iter().map(|c| Weight::new(c, count)).collect();
    let mut queue: BinaryHeap<Offer> = BinaryHeap::new();
    queue.extend((0..weights.len()).filter_map(|i| weights[i].offer(i)));
    let mut least = f64::INFINITY;
    while let Some(offer) = queue.pop() {
        if offer.score < threshold {
            break;
        }
        let weight = &mut weights[offer.weight];
        if offer.price <= left {
            left -= offer.price;
            least = offer.score;
            weight.held = offer.gives;
        } else if offer.gives == Held::Whole && weight.may_stay_whole {
            // Nor later: what a rank takes from its price it takes from the budget as well.
            weight.may_stay_whole = false;
        } else {
            break;
        }
        queue.extend(weight.offer(offer.weight));
    }
    Allocation {
        steps: weights.iter().filter_map(Weight::step).collect(),
        threshold: least,
    }
}

/// What a weight has been given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Rank(usize),
    Whole,
}

/// A weight while ranks are handed out.
struct Weight<'a> {
    candidate: &'a Candidate,
    count: Count,
    held: Held,
    /// Whether it may skip ranks to stay whole.
    may_stay_whole: bool,
    /// Σ of the scores from each rank on.
    tails: Vec<f64>,
}

/// What a weight would take next.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Offer {
    score: f64,
    price: usize, // parameters
    weight: usize,
    gives: Held,
}

impl<'a> Weight<'a> {
    fn new(candidate: &'a Candidate, count: Count) -> Self {
        let mut tails: Vec<f64> = candidate.scores.iter().rev().copied().collect();
        let mut sum = 0.0;
        for x in &mut tails {
            sum += *x;
            *x = sum;
        }
        tails.reverse();
        Self {
            candidate,
            count,
            held: Held::Rank(1),
            may_stay_whole: count == Count::Envelope,
            tails,
        }
    }

    /// The best of what it can take next; `index` is its own.
    fn offer(&self, index: usize) -> Option<Offer> {
        let Held::Rank(rank) = self.held else {
            return None;
        };
        let shape = self.candidate.shape;
        let next = |&score: &f64| Offer {
            score,
            price: shape.low_rank_size(1),
            weight: index,
            gives: Held::Rank(rank + 1),
        };
        let rank_more = self.candidate.scores.get(rank).map(next);
        if self.count == Count::Ranks {
            return rank_more;
        }
        let price = shape.size().saturating_sub(shape.low_rank_size(rank));
        let whole = |score| Offer {
            score,
            price,
            weight: index,
            gives: Held::Whole,
        };
        if !shape.shrinks_at(rank + 1) {
            return rank_more.map(|offer| whole(offer.score));
        }
        // The remaining ranks for the price of so many.
        let ranks = price as f64 / shape.low_rank_size(1) as f64;
        let skipping = self.tails.get(rank).map(|tail| whole(tail / ranks));
        match (rank_more, skipping.filter(|_| self.may_stay_whole)) {
            (Some(one), Some(all)) if all.score >= one.score => Some(all),
            (one, _) => one,
        }
    }

    /// What is to be done with it; nothing where it stays whole.
    fn step(&self) -> Option<Truncate> {
        let Candidate { site, shape, .. } = *self.candidate;
        match self.held {
            Held::Rank(rank) if shape.shrinks_at(rank) => Some(Truncate { site, rank }),
            _ => None,
        }
    }
}

impl Eq for Offer {}

/// By score; of equal ones the earlier weight's first.
impl Ord for Offer {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.score.total_cmp(&other.score);
        by_score.then(other.weight.cmp(&self.weight))
    }
}

impl PartialOrd for Offer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
#[path = "allocate_tests.rs"]
mod tests;
