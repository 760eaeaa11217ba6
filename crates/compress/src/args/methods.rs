//! The methods, and the options that each has of its own.

use clap::{Args, Subcommand};
use compress_core::{Bits, Scheme, Tokens};
use compress_fwsvd::{Fisher, FwSvd};
use compress_lorc::{Keep, Lorc, Options as Rounding, Quantizer, Scaling};
use compress_svd::{Norm, Svd};
use compress_welore::{Count, Score, Welore};

/// One line per method; each takes the options of the verb and its own.
#[derive(Debug, Subcommand)]
pub enum By<Job: Args> {
    /// Truncated SVD, the same kept fraction everywhere: plain needs no data and is the weakest per
    /// byte; under the activation metric it is far better, for one pass over a calibration text.
    Svd(With<SvdOptions, Job>),
    /// Fisher-weighted SVD, the same kept fraction everywhere: needs gradients over a calibration
    /// text, about four forward passes; the best of the closed forms.
    Fwsvd(With<FwSvdOptions, Job>),
    /// A rank for every weight by one threshold on all spectra: at the same size far better than the
    /// same fraction everywhere, for the same data and time.
    Welore(With<WeloreOptions, Job>),
    /// Few bits for each number, and a low-rank correction of what rounding loses: by far the best per
    /// byte. Written as compressed-tensors and a PEFT adapter.
    Lorc(With<LorcOptions, Job>),
}

/// A method's own options beside those of a verb.
#[derive(Debug, Args)]
pub struct With<Own: Args, Job: Args> {
    #[command(flatten)]
    pub own: Own,
    #[command(flatten)]
    pub job: Job,
}

impl<Job: Args> By<Job> {
    /// The options of the verb.
    pub const fn job(&self) -> &Job {
        match self {
            Self::Svd(with) => &with.job,
            Self::Fwsvd(with) => &with.job,
            Self::Welore(with) => &with.job,
            Self::Lorc(with) => &with.job,
        }
    }

    /// The options of the verb, to be changed.
    pub const fn job_mut(&mut self) -> &mut Job {
        match self {
            Self::Svd(with) => &mut with.job,
            Self::Fwsvd(with) => &mut with.job,
            Self::Welore(with) => &mut with.job,
            Self::Lorc(with) => &mut with.job,
        }
    }
}

#[derive(Debug, Args)]
pub struct SvdOptions {
    /// Which error is made small: `plain`, that of the weights, or `activation`, that of the outputs
    /// on a calibration text.
    #[arg(long, value_name = "METRIC", default_value = "plain", value_parser = metric)]
    pub metric: Norm,
}

impl SvdOptions {
    pub const fn method(&self) -> Svd {
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

impl FwSvdOptions {
    pub const fn method(&self) -> FwSvd {
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

impl WeloreOptions {
    pub fn method(&self) -> Welore {
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
    /// Bits of each number: 2, 3, 4 or 8. 4 and 8 load in vLLM and transformers; the others here only.
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

    /// Give each group a zero point as well.
    #[arg(long, conflicts_with = "plan")]
    pub asymmetric: bool,

    /// How numbers are rounded: `nearest` needs no data; `gptq` makes errors good at later inputs, for a
    /// pass over a calibration text.
    #[arg(
        long,
        value_name = "QUANTIZER",
        default_value = "gptq",
        conflicts_with = "plan"
    )]
    pub quantizer: Quantizer,

    /// How a group gets its scale: `covering` reaches its largest number, `searched` has the least error
    /// [default: searched for gptq, covering for nearest].
    #[arg(long, value_name = "SCALING", conflicts_with = "plan")]
    pub scaling: Option<Scaling>,

    /// How often scales and codes are fitted to the calibration text afterwards [default: 3 for gptq, 0 for
    /// nearest].
    #[arg(long, value_name = "N", conflicts_with = "plan")]
    pub refinements: Option<usize>,

    /// Rank of the correction; 0 for none, `worth` for the one that gains most over spending its bits on
    /// the codes, where it gains at all: mostly nowhere, with `gptq`.
    #[arg(long, value_name = "R", default_value = "0", value_parser = correction, conflicts_with = "plan")]
    pub rank: RankOfCorrection,

    /// How often the weight less its correction is rounded again; the best is kept.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "plan")]
    pub alternations: usize,

    /// Which error the correction makes small: `plain` (the paper's), or `activation`.
    #[arg(long, value_name = "METRIC", default_value = "activation", value_parser = metric, conflicts_with = "plan")]
    pub metric: Norm,

    /// How much each token of the calibration text counts for keys and values: `attended`, by how much
    /// it is looked at, or `alike`, as in the papers. Where a model looks at its first token all the
    /// time, as most do, that one is most of what matters.
    #[arg(
        long,
        value_name = "TOKENS",
        default_value = "attended",
        conflicts_with = "plan"
    )]
    pub tokens: Tokens,
}

/// The rank of a correction, or the wish for one that is worth its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankOfCorrection {
    Rank(usize),
    Worth,
}

fn correction(text: &str) -> Result<RankOfCorrection, String> {
    match text {
        "worth" => Ok(RankOfCorrection::Worth),
        _ => text
            .parse()
            .map(RankOfCorrection::Rank)
            .map_err(|_| "a rank is a number, or `worth`".into()),
    }
}

impl LorcOptions {
    pub fn method(&self) -> Lorc {
        let (scaling, refinements) = match self.quantizer {
            Quantizer::Nearest => (Scaling::Covering, 0),
            Quantizer::Gptq => (Scaling::Searched, 3),
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
            options: Rounding {
                scheme,
                quantizer: self.quantizer,
                scaling: self.scaling.unwrap_or(scaling),
                refinements: self.refinements.unwrap_or(refinements),
                rank: match self.rank {
                    RankOfCorrection::Rank(rank) => rank,
                    RankOfCorrection::Worth => 0,
                },
                keep: Keep::Half,
                alternations: self.alternations,
            },
            worth: self.rank == RankOfCorrection::Worth,
            metric: if self.rank == RankOfCorrection::Rank(0) {
                Norm::Plain
            } else {
                self.metric
            },
            tokens: self.tokens,
        }
    }
}
