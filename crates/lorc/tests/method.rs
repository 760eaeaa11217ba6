//! LoRC as a method obeys the laws of every method, as far as they speak of bits.

use compress_core::{
    Bits, Edit, Method as _, Scheme, Step as _, Survey, TokenWeights,
    testing::{self, Toy, ToyEvidence},
};
use compress_lorc::{Lorc, Quantizer, RoundingOptions, Scaling};
use compress_svd::Norm;
use rayon::prelude::*;

type Outcome = compress_core::Result<()>;

/// Groups of 8 divide the toy's 24 and 40 inputs.
fn lorc(bits: Bits, rank: usize, quantizer: Quantizer) -> Lorc {
    let scheme = Scheme::symmetric(bits, Some(8));
    Lorc {
        options: RoundingOptions {
            quantizer,
            scaling: Scaling::Mse,
            rank,
            ..RoundingOptions::nearest(scheme)
        },
        auto_rank: false,
        metric: Norm::Activation,
        tokens: TokenWeights::Attention,
    }
}

#[test]
fn edits_are_what_the_step_predicted() -> Outcome {
    for rank in [0, 3, 1000] {
        testing::edits_are_what_the_step_predicted(&lorc(Bits::Four, rank, Quantizer::Gptq))?;
    }
    Ok(())
}

#[test]
fn corrections_where_they_are_worth_it_have_one_rank() -> Outcome {
    let method = Lorc {
        auto_rank: true,
        ..lorc(Bits::Two, 0, Quantizer::Gptq)
    };
    testing::edits_are_what_the_step_predicted(&method)?;
    let toy = Toy::new(3);
    let survey = Survey::new(&toy, |_| true).with_evidence(&ToyEvidence);
    let steps = method.plan(&survey, None)?;
    let ranks = steps.iter().map(|step| step.options.rank);
    let most = ranks.clone().max().unwrap_or(0);
    assert!(ranks.clone().all(|rank| rank == 0 || rank == most));
    Ok(())
}

#[test]
fn nothing_in_a_plan_is_ignored() -> Outcome {
    testing::nothing_in_a_plan_is_ignored(&lorc(Bits::Four, 2, Quantizer::Gptq))
}

#[test]
fn a_step_that_would_never_end_is_refused_by_name() -> Outcome {
    let toy = Toy::new(3);
    let survey = Survey::new(&toy, |_| true).with_evidence(&ToyEvidence);
    let good = lorc(Bits::Four, 2, Quantizer::Gptq);
    let mut endless = [good; 2];
    endless[0].options.refinements = 1_000_000_000_000_000;
    endless[1].options.alternations = 1_000_000_000_000_000;
    for (method, what) in endless.iter().zip(["refinements", "alternations"]) {
        for auto_rank in [false, true] {
            let planned = Lorc {
                auto_rank,
                ..*method
            }
            .plan(&survey, None);
            let refused = planned.unwrap_err().to_string();
            assert!(refused.contains(what), "{refused}");
        }
        let mut step = good.plan(&survey, None)?[0];
        step.options = method.options;
        assert!(step.check(|site| survey.shape(site)).is_err(), "{what}");
    }
    Ok(())
}

#[test]
fn a_step_needs_what_it_says_whatever_the_method_would_have_planned() -> Outcome {
    let toy = Toy::new(3);
    let survey = Survey::new(&toy, |_| true).with_evidence(&ToyEvidence);
    let gptq = lorc(Bits::Four, 0, Quantizer::Gptq);
    let nearest = Lorc {
        options: RoundingOptions::nearest(gptq.options.scheme),
        metric: Norm::Plain,
        ..gptq
    };
    for method in [gptq, nearest] {
        let step = method.plan(&survey, None)?[0];
        for carrier in [gptq, nearest] {
            assert_eq!(carrier.needs(&step), method.needs(&step));
        }
    }
    Ok(())
}

#[test]
fn the_bytes_are_the_same_on_any_number_of_threads() -> Outcome {
    let refined = |rank, alternations, auto_rank| {
        let mut method = lorc(Bits::Four, rank, Quantizer::Gptq);
        method.options.scheme.group = Some(32);
        method.options.refinements = 2;
        method.options.alternations = alternations;
        Lorc {
            auto_rank,
            ..method
        }
    };
    for method in [
        refined(0, 0, false),
        refined(4, 1, false),
        refined(0, 0, true),
    ] {
        testing::the_bytes_are_the_same_on_any_number_of_threads(&method)?;
    }
    Ok(())
}

#[test]
fn many_threads_never_wait_for_each_other_in_a_circle() -> Outcome {
    let (toy, method) = (Toy::new(9), lorc(Bits::Four, 2, Quantizer::Gptq));
    let survey = Survey::new(&toy, |_| true).with_evidence(&ToyEvidence);
    let steps = method.plan(&survey, None)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build();
    let pool = pool.map_err(compress_core::Error::source)?;
    for _ in 0..200 {
        pool.install(|| {
            let halves = steps.par_chunks(steps.len() / 2);
            halves.try_for_each(|steps| method.compress(steps, &survey).map(drop))
        })?;
    }
    Ok(())
}

#[test]
fn a_damaged_weight_is_named() -> Outcome {
    testing::a_damaged_weight_is_named(&lorc(Bits::Three, 2, Quantizer::Nearest))
}

#[test]
fn more_bits_and_more_rank_never_hurt() -> Outcome {
    let toy = Toy::new(3);
    let survey = Survey::new(&toy, |_| true).with_evidence(&ToyEvidence);
    let error = |bits, rank| {
        let method = lorc(bits, rank, Quantizer::Nearest);
        let mut sum = 0.0;
        let steps = method.plan(&survey, None)?;
        for Edit { error, .. } in method.compress(&steps, &survey)? {
            sum += error;
        }
        Ok::<f64, compress_core::Error>(sum)
    };
    let all = |errors: &mut dyn Iterator<Item = compress_core::Result<f64>>| {
        errors.collect::<compress_core::Result<Vec<f64>>>()
    };
    let bits = all(&mut Bits::ALL.into_iter().map(|bits| error(bits, 0)))?;
    let ranks = all(&mut [0, 1, 2, 4, 8]
        .into_iter()
        .map(|rank| error(Bits::Two, rank)))?;
    for sums in [bits, ranks] {
        assert!(sums.is_sorted_by(|a, b| a > b), "{sums:?}");
    }
    Ok(())
}
