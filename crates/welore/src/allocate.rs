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

/// What a weight has without any rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Base {
    /// Nothing: it gets rank 1 at least.
    #[default]
    Nothing,
    /// Something that is paid for already, such as a mixture of atoms that it shares: ranks are of what that leaves,
    /// and none is needed.
    Shared,
}

/// A weight, and the scores of its ranks.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Which weight.
    pub site: Site,
    /// Its shape.
    pub shape: Shape,
    /// The score of each of the ranks that it may get, never increasing.
    pub scores: Vec<f64>,
    /// What it has without any.
    pub base: Base,
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
    /// The rank of each candidate, in their order; none for one that stays whole (N-LRC).
    pub ranks: Vec<Option<usize>>,
    /// The least score that was bought, the threshold τ; infinite where nothing was.
    pub threshold: f64,
}

impl Allocation {
    /// The weights that become low-rank (LRC), given the candidates that it was made for.
    #[must_use]
    pub fn steps(&self, candidates: &[Candidate]) -> Vec<Truncate> {
        let ranks = candidates.iter().zip(&self.ranks);
        let steps = ranks.filter_map(|(candidate, rank)| {
            let site = candidate.site;
            rank.map(|rank| Truncate { site, rank })
        });
        steps.collect()
    }
}

/// Hands out ranks, the largest score first, until the budget is spent. Each weight has rank 1 at least, so that a
/// budget below that is exceeded.
///
/// It ends at the first rank that does not fit, so that less than one rank is left: to skip it for smaller
/// ones would let a larger budget keep less.
#[must_use]
pub fn allocate(candidates: &[Candidate], budget: Budget, count: Count) -> Allocation {
    let all: usize = candidates.iter().map(|c| c.shape.size()).sum();
    allocate_within((budget.fraction() * all as f64) as usize, candidates, count)
}

/// The same for a number of parameters.
#[must_use]
pub fn allocate_within(parameters: usize, candidates: &[Candidate], count: Count) -> Allocation {
    allocate_above(f64::NEG_INFINITY, candidates, parameters, count)
}

/// The same for scores of at least `threshold` only.
fn allocate_above(
    threshold: f64,
    candidates: &[Candidate],
    parameters: usize,
    count: Count,
) -> Allocation {
    // Rank 1 of every weight that has nothing else is paid first.
    let alone = candidates.iter().filter(|c| c.base == Base::Nothing);
    let ones: usize = alone.map(|c| c.shape.low_rank_size(1)).sum();
    let mut left = parameters.saturating_sub(ones);
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
        ranks: weights.iter().map(Weight::rank).collect(),
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
    /// A weight of the least rank, whose price the budget has paid already.
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
            held: Held::Rank(usize::from(candidate.base == Base::Nothing)),
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

    /// The rank of the weight; none where it stays whole.
    fn rank(&self) -> Option<usize> {
        let Candidate { shape, base, .. } = *self.candidate;
        match self.held {
            Held::Rank(rank) if base == Base::Shared || shape.shrinks_at(rank) => Some(rank),
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
