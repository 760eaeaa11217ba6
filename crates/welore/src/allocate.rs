//! Ranks for all weights under one budget: a greedy hand-out by score, which is one threshold for all.
//!
//! ```text
//! repeat   the weight with the best offer takes it: one rank at m + n parameters,
//!          or (envelope) all remaining ranks for m·n − r (m + n)
//! until    the best offer does not fit what is left of keep · Σ m·n
//! ```
//!
//! Scores never increase within a weight, so that handing out the largest first is the same as a threshold, found
//! exactly. Cost: a heap operation per rank.

use std::{cmp::Ordering, collections::BinaryHeap, str::FromStr};

use compress_core::{Budget, Shape, Site, Truncate};
use serde::Serialize;

/// A weight, and the scores of its ranks.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Which weight.
    pub site: Site,
    /// Its shape.
    pub shape: Shape,
    /// The score of each of its ranks, never increasing.
    pub scores: Vec<f64>,
}

/// The parameters that a budget counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// Every rank at m + n parameters, even those of a weight that then stays whole: the parameters that this saves
    /// are not spent. As published figures count, for comparison with them.
    Ranks,
    /// The parameters that are stored: a weight that reaches its break-even rank stays whole and counts m · n.
    Stored,
    /// The parameters that are stored; and a weight stays whole as soon as its remaining ranks together are worth that.
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

/// The result of a hand-out: steps within the budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// The weights that become low-rank (LRC). Whatever has no step stays whole (N-LRC).
    pub steps: Vec<Truncate>,
    /// The least score that was bought, the threshold τ; infinite where nothing was.
    pub threshold: f64,
}

/// Hands out ranks, the largest score first, until the budget is spent. Each weight has rank 1 at least, so that a
/// budget below that is exceeded.
///
/// It ends at the first rank that does not fit, so that less than one rank is left: to skip it for smaller
/// ones would let a larger budget keep less.
#[must_use]
pub fn allocate(candidates: &[Candidate], budget: Budget, count: Count) -> Allocation {
    allocate_above(f64::NEG_INFINITY, candidates, budget, count)
}

/// The same for scores of at least `threshold` only.
fn allocate_above(
    threshold: f64,
    candidates: &[Candidate],
    budget: Budget,
    count: Count,
) -> Allocation {
    let all: usize = candidates.iter().map(|c| c.shape.size()).sum();
    let ones: usize = candidates.iter().map(|c| c.shape.low_rank_size(1)).sum();
    // Rank 1 of every weight is paid first.
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
            // Staying whole will not fit later either: a rank takes as much from its price as from the budget. The
            // weight goes on rank by rank.
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

/// The state of a weight: its rank so far, or whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Rank(usize),
    Whole,
}

/// A weight during the hand-out.
struct Weight<'a> {
    candidate: &'a Candidate,
    count: Count,
    held: Held,
    /// Whether it may still be offered to stay whole at once.
    may_stay_whole: bool,
    /// Σ of the scores from each rank on, so that an offer takes constant time.
    tails: Vec<f64>,
}

/// The next thing that a weight could take, and its price.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Offer {
    score: f64,
    price: usize, // parameters
    weight: usize,
    gives: Held,
}

impl<'a> Weight<'a> {
    /// A weight of rank 1, whose price the budget has paid already.
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

    /// The best offer to this weight, whose index is given; none where it is whole, or has all ranks.
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
        // The next rank reaches break-even: the whole weight costs no more, and is exact.
        if !shape.shrinks_at(rank + 1) {
            return rank_more.map(|offer| whole(offer.score));
        }
        // Worth per m + n parameters, as the score of a single rank is: the slope of the envelope.
        let ranks = price as f64 / shape.low_rank_size(1) as f64;
        let skipping = self.tails.get(rank).map(|tail| whole(tail / ranks));
        match (rank_more, skipping.filter(|_| self.may_stay_whole)) {
            // On the upper concave envelope the steeper segment comes first.
            (Some(one), Some(all)) if all.score >= one.score => Some(all),
            (one, _) => one,
        }
    }

    /// The step of the weight; none where it stays whole.
    fn step(&self) -> Option<Truncate> {
        let Candidate { site, shape, .. } = *self.candidate;
        match self.held {
            Held::Rank(rank) if shape.shrinks_at(rank) => Some(Truncate { site, rank }),
            _ => None,
        }
    }
}

impl Eq for Offer {}

/// By score; of equal ones the earlier weight first, so that plans do not depend on the heap.
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
