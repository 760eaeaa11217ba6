#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use compress_core::Role;
use compress_numerics::Random;
use proptest::prelude::*;

use super::*;

fn candidates(seed: u64) -> Vec<Candidate> {
    let mut random = Random(seed);
    let shapes = [(64, 64), (64, 16), (160, 64), (64, 160)].map(|(m, n)| Shape::new(m, n));
    let one = |index: usize| {
        let shape = shapes[index % shapes.len()];
        let fall = 0.02 + 0.3 * random.uniform();
        let scores = (0..shape.full_rank()).map(|i| f64::from((-fall * i as f32).exp()));
        Candidate {
            site: Site::new(index / 7, Role::ALL[index % 7]),
            shape,
            scores: scores.collect(),
            base: Base::Nothing,
        }
    };
    (0..28).map(one).collect()
}

/// Parameters that are stored, and those that ranks were handed out for.
fn stored(candidates: &[Candidate], steps: &[Truncate]) -> usize {
    let saved = |step: &Truncate| {
        let at = candidates.iter().find(|c| c.site == step.site).unwrap();
        at.shape.size() - at.shape.low_rank_size(step.rank)
    };
    let all: usize = candidates.iter().map(|c| c.shape.size()).sum();
    all - steps.iter().map(saved).sum::<usize>()
}

/// Σ of the scores that are kept.
fn worth(candidates: &[Candidate], steps: &[Truncate]) -> f64 {
    let kept = |c: &Candidate| {
        let step = steps.iter().find(|step| step.site == c.site);
        c.scores[..step.map_or(c.scores.len(), |step| step.rank)]
            .iter()
            .sum::<f64>()
            * c.shape.low_rank_size(1) as f64
    };
    candidates.iter().map(kept).sum()
}

const COUNTS: [Count; 3] = [Count::Ranks, Count::Stored, Count::Envelope];

proptest! {
    #[test]
    fn the_budget_is_met_and_nothing_grows(seed: u64, keep in 0.1..0.99) {
        let candidates = candidates(seed);
        let all: usize = candidates.iter().map(|c| c.shape.size()).sum();
        let budget = (keep * all as f64) as usize;
        for count in COUNTS {
            let steps = allocate(&candidates, Budget::keep(keep).unwrap(), count).steps(&candidates);
            for step in &steps {
                let at = candidates.iter().find(|c| c.site == step.site).unwrap();
                prop_assert!(step.rank >= 1 && at.shape.shrinks_at(step.rank));
            }
            let stored = stored(&candidates, &steps);
            prop_assert!(stored <= budget, "{count:?}: {stored} of {budget}");
            // Less than the largest price of a rank is left.
            let ended = steps.is_empty() || count == Count::Ranks;
            prop_assert!(ended || budget - stored < 224, "{count:?}: {stored} of {budget}");
        }
    }

    #[test]
    fn the_threshold_is_exact(seed: u64, keep in 0.1..0.99) {
        let (candidates, keep) = (candidates(seed), Budget::keep(keep).unwrap());
        for count in COUNTS {
            let found = allocate(&candidates, keep, count);
            let all: usize = candidates.iter().map(|c| c.shape.size()).sum();
            let parameters = (keep.fraction() * all as f64) as usize;
            let at = |threshold| allocate_above(threshold, &candidates, parameters, count);
            prop_assert_eq!(&at(found.threshold), &found);
            // Held up by a rank of a weight that is whole by then, a plan does not change.
            if count != Count::Ranks {
                prop_assert_ne!(&at(found.threshold.next_up()).ranks, &found.ranks);
            }
        }
    }

    #[test]
    fn each_way_of_counting_keeps_more_than_the_one_before(seed: u64, keep in 0.2..0.9) {
        let (candidates, keep) = (candidates(seed), Budget::keep(keep).unwrap());
        let kept = COUNTS.map(|count| worth(&candidates, &allocate(&candidates, keep, count).steps(&candidates)));
        prop_assert!(kept[0] <= kept[1] * 1.000_001, "{kept:?}");
        // The envelope is optimal but for the last weight, which may not fit whole.
        prop_assert!(kept[1] <= kept[2] * 1.01, "{kept:?}");
    }

    #[test]
    fn more_budget_keeps_more(seed: u64, keep in 0.1..0.8) {
        let candidates = candidates(seed);
        for count in COUNTS {
            let kept = [keep, keep + 0.1].map(|keep| {
                let keep = Budget::keep(keep).unwrap();
                worth(&candidates, &allocate(&candidates, keep, count).steps(&candidates))
            });
            prop_assert!(kept[0] <= kept[1], "{count:?}: {kept:?}");
        }
    }
}

#[test]
fn of_two_equal_weights_the_one_that_matters_more_gets_more() {
    let shape = Shape::new(64, 64);
    let scores: Vec<f64> = (0..64).map(|i| 0.8_f64.powi(i)).collect();
    let weight = |layer, factor: f64| Candidate {
        site: Site::new(layer, Role::Query),
        shape,
        scores: scores.iter().map(|s| s * factor).collect(),
        base: Base::Nothing,
    };
    let both = [weight(0, 1.0), weight(1, 100.0)];
    for count in COUNTS {
        let steps = allocate(&both, Budget::keep(0.4).unwrap(), count).steps(&both);
        assert!(steps[0].rank < steps[1].rank, "{count:?}: {steps:?}");
    }
}

#[test]
fn a_flat_spectrum_stays_whole_or_goes() {
    let shape = Shape::new(64, 64);
    let flat = |layer| Candidate {
        site: Site::new(layer, Role::Value),
        shape,
        scores: (0..64).map(|i| 1.0 - 1e-3 * f64::from(i)).collect(),
        base: Base::Nothing,
    };
    let both = [flat(0), flat(1)];
    let half = Budget::keep(0.52).unwrap();
    assert_eq!(allocate(&both, half, Count::Stored).steps(&both).len(), 2);
    let steps = allocate(&both, half, Count::Envelope).steps(&both);
    assert_eq!(steps.len(), 1, "{steps:?}");
}

#[test]
fn a_weight_that_has_something_already_needs_no_rank() {
    let shape = Shape::new(64, 64);
    let weight = |layer, base| Candidate {
        site: Site::new(layer, Role::Query),
        shape,
        scores: (0..64).map(|i| f64::from(64 - i)).collect(),
        base,
    };
    let both = [weight(0, Base::Shared), weight(1, Base::Nothing)];
    let ranks = |parameters| allocate_within(parameters, &both, Count::Envelope).ranks;
    assert_eq!(ranks(0), [Some(0), Some(1)]);
    // One has its first rank still to come, which is worth most.
    assert_eq!(ranks(2 * 128), [Some(1), Some(1)]);
    assert_eq!(ranks(usize::MAX / 2), [None, None]);
}
