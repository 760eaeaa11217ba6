//! The options that each method has of its own.

use clap::Args;
use compress_core::{Bits, Role, Scheme, TokenWeights};
use compress_fwsvd::{Fisher, FwSvd};
use compress_lorc::{Keep, Lorc, Quantizer, RoundingOptions, Scaling};
use compress_masa::{Count as AtomCount, Fit, GroupsBy, Masa};
use compress_svd::{Norm, Svd};
use compress_welore::{Count, Score, Welore};

use super::methods::{About, MethodOptions};

#[derive(Debug, Args)]
pub struct SvdOptions {
    /// Which error is made small: `plain`, that of the weights, or `activation`, that of the outputs
    /// on a calibration text.
    #[arg(long, value_name = "METRIC", default_value = "plain", value_parser = metric)]
    pub metric: Norm,
}

impl MethodOptions for SvdOptions {
    type Method = Svd;

    const SUMMARY: &'static str = "Truncated SVD, the same kept fraction everywhere: plain needs no data and is the weakest per \
        byte; under the activation metric it is far better, for one pass over a calibration text";

    const ABOUT: &'static [About] = &[
        About {
            name: "svd",
            does: "each weight becomes two thin factors, same kept fraction everywhere",
            needs: "nothing",
            costs: "one eigendecomposition per weight; quality falls fast below keep 0.95",
            paper: "Eckart & Young 1936",
        },
        About {
            name: "svd --metric activation",
            does: "the same with the least error of the outputs on a text",
            needs: "a calibration text",
            costs: "about three forward passes over it; one with --one-shot",
            paper: "arXiv 2403.07378",
        },
    ];

    fn method(&self) -> Svd {
        Svd { norm: self.metric }
    }
}

/// The norms that `svd` takes; those with gradients are `fwsvd`'s.
fn metric(text: &str) -> Result<Norm, String> {
    match text {
        "plain" => Ok(Norm::Plain),
        "activation" => Ok(Norm::Activation),
        _ => Err("a metric is plain or activation; fwsvd has more".into()),
    }
}

#[derive(Debug, Args)]
pub struct FwSvdOptions {
    /// Which Fisher information: `rows`, the paper's number for each input, or `kronecker`, a matrix
    /// for the inputs and one for the outputs, which costs no more time and is far better.
    #[arg(long, value_name = "FISHER", default_value = "kronecker")]
    pub fisher: Fisher,
}

impl MethodOptions for FwSvdOptions {
    type Method = FwSvd;

    const SUMMARY: &'static str = "Fisher-weighted SVD, the same kept fraction everywhere: needs gradients over a calibration \
        text, about four forward passes; the best of the closed forms";

    const ABOUT: &'static [About] = &[
        About {
            name: "fwsvd",
            does: "the same with the least change of the loss, by its gradients on both sides",
            needs: "a calibration text",
            costs: "about seven forward passes over it; four with --one-shot",
            paper: "arXiv 2505.17974",
        },
        About {
            name: "fwsvd --fisher rows",
            does: "the same with one number for each input",
            needs: "a calibration text",
            costs: "as fwsvd, for less",
            paper: "arXiv 2207.00112",
        },
    ];

    fn method(&self) -> FwSvd {
        FwSvd {
            fisher: self.fisher,
        }
    }
}

#[derive(Debug, Args)]
pub struct WeloreOptions {
    /// What the threshold runs over: `minmax`, the paper's normalised singular values, needs no data;
    /// `energy`, shares of the outputs on a calibration text; `loss`, the estimated change of the
    /// loss, needs gradients and is by far the best.
    #[arg(long, value_name = "SCORE", default_value = "loss")]
    pub score: Score,

    /// What the budget counts: `ranks`, every rank at its full price, even those of a weight that then
    /// stays whole; `stored`, what is stored; `envelope`, what is stored, and a weight stays whole as
    /// soon as that is worth its price [default: stored for minmax, else envelope].
    #[arg(long, value_name = "COUNT", conflicts_with = "plan")]
    pub count: Option<Count>,
}

impl MethodOptions for WeloreOptions {
    type Method = Welore;

    const SUMMARY: &'static str = "A rank for every weight by one threshold on all spectra: at the same size far better than \
        the same fraction everywhere, for the same data and time";

    const ABOUT: &'static [About] = &[About {
        name: "welore",
        does: "a rank for each weight, by one threshold on what ranks are worth to the loss",
        needs: "a calibration text; nothing with --score minmax",
        costs: "as fwsvd",
        paper: "arXiv 2407.11239",
    }];

    fn method(&self) -> Welore {
        let usual = match self.score {
            Score::MinMax => Count::Stored,
            Score::Energy | Score::Loss => Count::Envelope,
        };
        Welore {
            score: self.score,
            count: self.count.unwrap_or(usual),
        }
    }
}

#[derive(Debug, Args)]
pub struct LorcOptions {
    // A plan says all of this, so that none of it goes with one that is given.
    /// Bits of each number: 2, 3, 4 or 8. transformers loads all of them, vLLM 4 and 8.
    #[arg(
        long,
        value_name = "BITS",
        default_value = "4",
        conflicts_with = "plan"
    )]
    pub bits: Bits,

    /// Neighbours that share a scale, a divisor of every weight's inputs; 0 for whole rows.
    #[arg(long, value_name = "N", default_value_t = 32, conflicts_with = "plan")]
    pub group: usize,

    /// Give each group a zero point as well. transformers 5 and vLLM load that, transformers 4.57 does not.
    #[arg(long, conflicts_with = "plan")]
    pub asymmetric: bool,

    /// How numbers are rounded: `nearest` needs no data; `gptq` compensates each error at later inputs,
    /// for a pass over a calibration text.
    #[arg(
        long,
        value_name = "QUANTIZER",
        default_value = "gptq",
        conflicts_with = "plan"
    )]
    pub quantizer: Quantizer,

    /// Round inputs in the order of their importance, largest H[j, j] first (act-order), with `gptq`. Scales are then
    /// chosen from the weights as they were.
    #[arg(long, conflicts_with = "plan")]
    pub act_order: bool,

    /// How a group gets its scale: `absmax` reaches its largest number, `mse` searches for the least error
    /// [default: mse for gptq, absmax for nearest].
    #[arg(long, value_name = "SCALING", conflicts_with = "plan")]
    pub scaling: Option<Scaling>,

    /// How often scales and codes are fitted to the calibration text afterwards [default: 3 for gptq, 0 for
    /// nearest].
    #[arg(long, value_name = "N", conflicts_with = "plan")]
    pub refinements: Option<usize>,

    /// Rank of the correction; 0 for none, `auto` for the one that gains most over spending its bits on
    /// the codes, where it gains at all: mostly nowhere, with `gptq`.
    #[arg(long, value_name = "R", default_value = "0", value_parser = correction, conflicts_with = "plan")]
    pub rank: RankOfCorrection,

    /// How often the weight less its correction is rounded again; the best is kept.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "plan")]
    pub alternations: usize,

    /// Which error the correction makes small: `plain` (the paper's), or `activation`.
    #[arg(long, value_name = "METRIC", default_value = "activation", value_parser = metric, conflicts_with = "plan")]
    pub metric: Norm,

    /// The weight of each token of the calibration text for keys and values: `attention`, its attention mass, or
    /// `uniform`, as in the papers. Where a model has attention sinks, as most do, those few tokens are most of
    /// what matters.
    #[arg(
        long,
        value_name = "TOKENS",
        default_value = "attention",
        conflicts_with = "plan"
    )]
    pub tokens: TokenWeights,
}

/// The rank of a correction, or the wish for one that is worth its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankOfCorrection {
    Rank(usize),
    Auto,
}

fn correction(text: &str) -> Result<RankOfCorrection, String> {
    match text {
        // The second is its earlier name.
        "auto" | "worth" => Ok(RankOfCorrection::Auto),
        _ => text
            .parse()
            .map(RankOfCorrection::Rank)
            .map_err(|_| "a rank is a number, or `auto`".into()),
    }
}

impl MethodOptions for LorcOptions {
    type Method = Lorc;

    const SUMMARY: &'static str = "Few bits for each number, and a low-rank correction of what rounding loses: by far the best \
        per byte. Written as compressed-tensors and a PEFT adapter";

    const ABOUT: &'static [About] = &[About {
        name: "lorc",
        does: "few bits for each number, and a low-rank correction of what rounding loses",
        needs: "a calibration text; nothing with --quantizer nearest --metric plain",
        costs: "about three forward passes over it; one with --one-shot",
        paper: "arXiv 2303.08302",
    }];

    fn size_decided_by(&self) -> Option<&'static str> {
        Some("its --bits, --group and --rank")
    }

    fn method(&self) -> Lorc {
        let (scaling, refinements) = match self.quantizer {
            Quantizer::Nearest => (Scaling::AbsMax, 0),
            Quantizer::Gptq => (Scaling::Mse, 3),
        };
        let scheme = Scheme {
            bits: self.bits,
            group: match self.group {
                0 => None,
                group => Some(group),
            },
            symmetric: !self.asymmetric,
        };
        Lorc {
            options: RoundingOptions {
                scheme,
                quantizer: self.quantizer,
                act_order: self.act_order && self.quantizer == Quantizer::Gptq,
                scaling: self.scaling.unwrap_or(scaling),
                refinements: self.refinements.unwrap_or(refinements),
                rank: match self.rank {
                    RankOfCorrection::Rank(rank) => rank,
                    RankOfCorrection::Auto => 0,
                },
                keep: Keep::Half,
                alternations: self.alternations,
            },
            auto_rank: self.rank == RankOfCorrection::Auto,
            metric: if self.rank == RankOfCorrection::Rank(0) {
                Norm::Plain
            } else {
                self.metric
            },
            tokens: self.tokens,
        }
    }
}

#[derive(Debug, Args)]
pub struct MasaOptions {
    /// The roles whose weights share atoms, each role among its own layers; q, k, v and o will do for those of attention.
    /// All other weights stay whole, and --keep counts these alone.
    #[arg(long, value_name = "ROLES", value_delimiter = ',', value_parser = role,
        default_value = "query,key,value,output", conflicts_with = "plan")]
    pub roles: Vec<Role>,

    /// How many atoms the layers of a group share: each costs as much as a whole weight. `auto` takes for each role the
    /// number with which the plan loses least, often none: layers of trained models have little in common.
    #[arg(
        long,
        value_name = "S",
        default_value = "auto",
        conflicts_with = "plan"
    )]
    pub atoms: AtomCount,

    /// Give every weight a residual of the same rank ρ·m·n / (m + n), in place of ranks that --keep or --target-size
    /// decides; 0 for none.
    #[arg(long, value_name = "RHO", value_parser = share, requires = "atoms", conflicts_with_all = ["keep", "size", "plan"])]
    pub residual: Option<f64>,

    /// Groups of consecutive layers that share.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "plan")]
    pub groups: usize,

    /// Where groups begin: `even`, so that they have nearly the same length; `logit-lens`, where neighbouring layers would say
    /// the most different things on the calibration text (by KL divergence, no group of one layer), as in the paper.
    #[arg(
        long,
        value_name = "HOW",
        default_value = "even",
        conflicts_with = "plan"
    )]
    pub groups_by: GroupsBy,

    /// Which error ranks are compared by and residuals make small: `loss`, the estimated loss, needs gradients;
    /// `activation`, that of the outputs; `plain`, that of the weights, needs no data.
    #[arg(long, value_name = "METRIC", default_value = "loss", value_parser = any_metric)]
    pub metric: Norm,

    /// How each weight's coefficients are fitted: by the same error (`norm`), or by projection, as in the paper (`plain`).
    #[arg(long, value_name = "FIT", default_value = "norm")]
    pub coefficients: Fit,
}

/// The norms that `masa` takes.
fn any_metric(text: &str) -> Result<Norm, String> {
    match text {
        "plain" => Ok(Norm::Plain),
        "activation" => Ok(Norm::Activation),
        "loss" => Ok(Norm::Kronecker),
        _ => Err("a metric is loss, activation or plain".into()),
    }
}

/// A role, or the letter that stands for one of attention.
fn role(text: &str) -> Result<Role, String> {
    match text {
        "q" => Ok(Role::Query),
        "k" => Ok(Role::Key),
        "v" => Ok(Role::Value),
        "o" => Ok(Role::Output),
        _ => text
            .parse()
            .map_err(|error: compress_core::Error| error.to_string()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share is from 0 to 1".into())
}

impl MethodOptions for MasaOptions {
    type Method = Masa;

    const SUMMARY: &'static str = "Layers as mixtures of matrix atoms that they share, each with a low-rank residual: stored once for \
        many layers. As measured, trained layers share little, and welore is as good for the same bytes";

    const ABOUT: &'static [About] = &[About {
        name: "masa",
        does: "weights of many layers become mixtures of a few atoms, and a low-rank residual each",
        needs: "a calibration text; nothing with --metric plain",
        costs: "as fwsvd, and a product with every atom for every weight",
        paper: "arXiv 2508.04581",
    }];

    fn size_decided_by(&self) -> Option<&'static str> {
        self.residual.map(|_| "its --atoms and --residual")
    }

    fn method(&self) -> Masa {
        Masa {
            roles: self.roles.clone(),
            atoms: self.atoms,
            residual: self.residual,
            groups: self.groups,
            groups_by: self.groups_by,
            norm: self.metric,
            fit: self.coefficients,
        }
    }
}
