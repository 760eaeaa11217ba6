//! The command line. Help texts, completions and documentation come from here.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use compress_calibrate::Aim;
use compress_core::{Bits, Budget, Format, Needs, Pattern, Scheme, Selection, Tokens};
use compress_fwsvd::{Fisher, FwSvd};
use compress_lorc::{Keep, Lorc, Options as Rounding, Quantizer, Scaling};
use compress_models::DeviceChoice;
use compress_svd::{Norm, Svd};
use compress_tune::{Options, Trained};
use compress_welore::{Count as Counting, Score, Welore};

/// Makes large language models smaller and shows what it cost.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The methods: what each does, needs and costs.
    Methods(Methods),
    /// What a model is made of: every weight's shape, bytes and singular spectrum.
    Inspect(Inspect),
    /// Decide what would be done, and what it would save; writes nothing.
    Plan {
        #[command(subcommand)]
        method: By<Planning>,
    },
    /// Plan, compress, write, and evaluate before and after.
    Run {
        #[command(subcommand)]
        method: By<Running>,
    },
    /// Several runs under one protocol, in one table and one picture.
    Compare(Compare),
    /// Train what compression has left of a model, most of it frozen: the strongest recovery after
    /// heavy cuts, for minutes to hours.
    Tune(Box<Tune>),
    /// Perplexity of a model on a text, and how far it is from an original.
    Evaluate(Evaluate),
    /// A completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

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
    #[arg(long, value_name = "COUNT")]
    pub count: Option<Counting>,
}

impl WeloreOptions {
    pub fn method(&self) -> Welore {
        let usual = match self.score {
            Score::MinMax => Counting::Stored,
            Score::Energy | Score::Loss => Counting::Envelope,
        };
        Welore {
            score: self.score,
            count: self.count.unwrap_or(usual),
        }
    }
}

#[derive(Debug, Args)]
pub struct LorcOptions {
    /// Bits of each number: 2, 3, 4 or 8. 4 and 8 load in vLLM and transformers; the others here only.
    #[arg(long, value_name = "BITS", default_value = "4")]
    pub bits: Bits,

    /// Neighbours that share a scale, a divisor of every weight's inputs; 0 for whole rows.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub group: usize,

    /// Give each group a zero point as well.
    #[arg(long)]
    pub asymmetric: bool,

    /// How numbers are rounded: `nearest` needs no data; `gptq` makes errors good at later inputs, for a
    /// pass over a calibration text.
    #[arg(long, value_name = "QUANTIZER", default_value = "gptq")]
    pub quantizer: Quantizer,

    /// How a group gets its scale: `covering` reaches its largest number, `searched` has the least error
    /// [default: searched for gptq, covering for nearest].
    #[arg(long, value_name = "SCALING")]
    pub scaling: Option<Scaling>,

    /// How often scales and codes are fitted to the calibration text afterwards [default: 3 for gptq, 0 for
    /// nearest].
    #[arg(long, value_name = "N")]
    pub refinements: Option<usize>,

    /// Rank of the correction; 0 for none, `worth` for the one that gains most over spending its bits on
    /// the codes, where it gains at all: mostly nowhere, with `gptq`.
    #[arg(long, value_name = "R", default_value = "0", value_parser = correction)]
    pub rank: Correction,

    /// How often the weight less its correction is rounded again; the best is kept.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub alternations: usize,

    /// Which error the correction makes small: `plain` (the paper's), or `activation`.
    #[arg(long, value_name = "METRIC", default_value = "activation", value_parser = metric)]
    pub metric: Norm,

    /// How much each token of the calibration text counts for keys and values: `attended`, by how much
    /// it is looked at, or `alike`, as in the papers. Where a model looks at its first token all the
    /// time, as most do, that one is most of what matters.
    #[arg(long, value_name = "TOKENS", default_value = "attended")]
    pub tokens: Tokens,
}

/// The rank of a correction, or the wish for one that is worth its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correction {
    Rank(usize),
    Worth,
}

fn correction(text: &str) -> Result<Correction, String> {
    match text {
        "worth" => Ok(Correction::Worth),
        _ => text
            .parse()
            .map(Correction::Rank)
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
                    Correction::Rank(rank) => rank,
                    Correction::Worth => 0,
                },
                keep: Keep::Half,
                alternations: self.alternations,
            },
            worth: self.rank == Correction::Worth,
            metric: if self.rank == Correction::Rank(0) {
                Norm::Plain
            } else {
                self.metric
            },
            tokens: self.tokens,
        }
    }
}

#[derive(Debug, Args)]
pub struct Methods {
    #[command(flatten)]
    pub printing: Printing,
}

/// Which model, and how far.
#[derive(Debug, Args)]
pub struct Planning {
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub sites: Sites,
    #[command(flatten)]
    pub form: OutputForm,
    #[command(flatten)]
    pub calibration: Calibrating,

    /// Draw the plan: what every weight keeps, by block and role.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    #[command(flatten)]
    pub printing: Printing,
}

/// The text that methods with an eye for data look at. Not the text that the result is judged by!
#[derive(Clone, Debug, Args)]
pub struct Calibrating {
    /// The text to calibrate on, for methods that need one; the one that ships with this program for
    /// the model that does.
    #[arg(long, value_name = "FILE")]
    pub calibrate: Option<PathBuf>,

    /// How many windows of it [default: 64, or all there are if fewer].
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,

    /// Tokens per window [default: as in the evaluation].
    #[arg(long, value_name = "N")]
    pub calibrate_ctx: Option<usize>,

    /// Draw the windows from all over the text, in a way that this number decides; the first ones
    /// where left out.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    #[command(flatten)]
    pub order: Order,

    /// Where measurements are kept for further runs [default: compress/evidence in the user's cache].
    #[arg(long, value_name = "DIR")]
    pub evidence: Option<PathBuf>,
}

impl Calibrating {
    /// Takes from `other` what is not said here.
    pub fn complete(&mut self, other: &Self) {
        let Self {
            calibrate,
            samples,
            calibrate_ctx,
            seed,
            order,
            evidence,
        } = other.clone();
        let Order {
            one_shot,
            sequential,
            refit,
        } = self.order;
        if !(one_shot || sequential || refit) {
            self.order = order;
        }
        self.calibrate = self.calibrate.take().or(calibrate);
        self.samples = self.samples.or(samples);
        self.calibrate_ctx = self.calibrate_ctx.or(calibrate_ctx);
        self.seed = self.seed.or(seed);
        self.evidence = self.evidence.take().or(evidence);
    }

    /// What weights behind compressed ones aim at; none where all are compressed at once.
    pub fn aim(&self, needs: Needs) -> Option<Aim> {
        let Order {
            one_shot,
            sequential,
            refit,
        } = self.order;
        if refit || (needs != Needs::NOTHING && !one_shot && !sequential) {
            Some(Aim::Original)
        } else {
            sequential.then_some(Aim::Inputs)
        }
    }
}

/// In which order weights are measured and compressed [default: --refit for methods that measure].
#[derive(Clone, Copy, Debug, Args)]
#[group(multiple = false)]
pub struct Order {
    /// Measure once, on the original, and compress all weights at once: the fastest.
    #[arg(long)]
    pub one_shot: bool,

    /// Compress block after block, and measure each behind those that are compressed already. By
    /// itself it rarely helps: weights learn to work with damaged inputs, and pass the damage on.
    #[arg(long)]
    pub sequential: bool,

    /// As --sequential, and each weight aims at what the original gives at its place, so that it makes
    /// good for the cuts before it: two more passes, and by far the best. Methods that measure do so
    /// unless told otherwise.
    #[arg(long)]
    pub refit: bool,
}

#[derive(Debug, Args)]
pub struct Running {
    #[command(flatten)]
    pub planning: Planning,

    /// The directory to write; it must not exist.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,

    /// Replace the output, if it exists and is an earlier output or empty, and the work directory of
    /// another run to the same place.
    #[arg(long)]
    pub force: bool,

    /// Don't run the models afterwards: faster, but what it cost stays unknown.
    #[arg(long)]
    pub no_evaluate: bool,

    #[command(flatten)]
    pub text: Text,
}

#[derive(Debug, Args)]
pub struct Model {
    /// A Hugging Face directory, a GGUF file, or a hub id such as org/name; the small model that
    /// ships with this program where left out.
    #[arg(value_name = "MODEL")]
    pub name: Option<String>,
}

/// How far to cut. At most one of these.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct Target {
    /// The fraction of the parameters of the chosen weights that stays, above 0 and at most 1
    /// [default: 0.8].
    #[arg(long, value_name = "FRACTION")]
    pub keep: Option<Budget>,

    /// The size that the weight files may have, such as 200MB or 1.5GiB.
    #[arg(long = "target-size", value_name = "BYTES")]
    pub size: Option<ByteSize>,

    /// A plan as `plan` prints it; methods with the same kind of steps take each other's.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "skip"])]
    pub plan: Option<PathBuf>,
}

/// Which weights.
#[derive(Debug, Args)]
pub struct Sites {
    /// Touch only these weights: a role (query key value output gate up down), a layer range such as
    /// 0-2, or a regular expression on module names; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub only: Vec<Pattern>,

    /// Leave these weights alone; patterns as for --only.
    #[arg(long, value_name = "PATTERN")]
    pub skip: Vec<Pattern>,
}

impl Sites {
    pub fn selection(&self) -> Selection {
        Selection {
            only: self.only.clone(),
            skip: self.skip.clone(),
        }
    }
}

/// How the result is written.
#[derive(Debug, Args)]
pub struct OutputForm {
    /// Number format of all tensors: f32, f16 or bf16 [default: the source's own; f16 for GGUF].
    #[arg(long, value_name = "FORMAT")]
    pub dtype: Option<Format>,

    /// Round embedding and head too, to 8 bits and a scale per token: half of their bytes, which are
    /// most of a small model's. Where the embedding is the head as well, only this program reads that;
    /// else transformers does, too. vLLM reads no rounded embedding.
    #[arg(long, value_name = "BITS", value_parser = ["8"])]
    embedding_bits: Option<String>,

    /// Round the two factors of a low-rank pair to 8 bits and a scale per row: half of their bytes for
    /// next to no loss.
    #[arg(long, value_name = "BITS", value_parser = ["8"], conflicts_with = "dense")]
    factor_bits: Option<String>,

    /// Multiply the factors out again: loads anywhere without remote code, but saves no bytes.
    #[arg(long)]
    pub dense: bool,
}

/// 8 bits, and a scale for each row.
const ROWS: Scheme = Scheme::symmetric(Bits::Eight, None);

impl OutputForm {
    /// How embedding and head are rounded, where they are to be.
    pub fn tables(&self) -> Option<Scheme> {
        self.embedding_bits.as_ref().map(|_| ROWS)
    }

    /// How low-rank factors are rounded, where they are to be.
    pub fn factors(&self) -> Option<Scheme> {
        self.factor_bits.as_ref().map(|_| ROWS)
    }
}

#[derive(Debug, Args)]
pub struct Printing {
    /// One JSON object on stdout in place of tables.
    #[arg(long)]
    pub json: bool,

    /// No progress.
    #[arg(short, long)]
    pub quiet: bool,
}

/// What is scored, and where.
#[derive(Clone, Debug, Args)]
pub struct Text {
    /// The text to score; the sample that ships with this program where left out.
    #[arg(long = "text", value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Tokens per window [default: the model's context, at most 1024].
    #[arg(long, value_name = "N")]
    pub ctx: Option<usize>,

    /// How many windows (or documents) to score, or `all` [default: 64, or all there are if fewer].
    #[arg(long, value_name = "N")]
    pub windows: Option<Count>,

    /// Lead each window with a BOS token.
    #[arg(long)]
    pub bos: bool,

    /// Score each document by itself, led by BOS and cut at the context; the text between them.
    #[arg(long, value_name = "SEPARATOR")]
    pub documents: Option<String>,

    /// Where to run: auto (a real GPU if one answers, else the CPU), cpu, or wgpu.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

/// A number, or all.
#[derive(Clone, Copy, Debug)]
pub enum Count {
    Exactly(usize),
    All,
}

impl std::str::FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(count)) if count > 0 => Ok(Self::Exactly(count)),
            _ => Err("a number above 0, or `all`".into()),
        }
    }
}

#[derive(Debug, Args)]
pub struct Inspect {
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub sites: Sites,
    /// Shapes and bytes only, without the singular spectra.
    #[arg(long)]
    pub no_spectra: bool,

    /// Compare with the original, as a check after tuning: how the effective ranks have changed, and
    /// how many of each weight's 10 largest singular vectors no original one explains (intruder
    /// dimensions: cosine below 0.6), which are paid for by what the model knew before.
    #[arg(long, value_name = "ORIGINAL", conflicts_with = "no_spectra")]
    pub against: Option<String>,

    /// Draw the spectra: σᵢ / σ₁ of every weight, a panel for each role.
    #[arg(long, value_name = "FILE.svg", conflicts_with = "no_spectra")]
    pub plot: Option<PathBuf>,

    #[command(flatten)]
    pub printing: Printing,
}

#[derive(Debug, Args)]
pub struct Evaluate {
    #[command(flatten)]
    pub model: Model,

    /// The original, to measure the KL divergence from it.
    #[arg(long, value_name = "ORIGINAL")]
    pub against: Option<String>,

    #[command(flatten)]
    pub text: Text,
    #[command(flatten)]
    pub printing: Printing,
}

#[derive(Debug, Args)]
pub struct Tune {
    /// The compressed model: a directory that `run` wrote.
    #[arg(value_name = "MODEL")]
    pub model: String,

    /// The model that was compressed: what distillation learns from, and what divergence is measured
    /// from.
    #[arg(long, value_name = "ORIGINAL")]
    pub original: Option<String>,

    /// The text to train on; may be repeated. Not the text that the result is judged by!
    #[arg(long, value_name = "FILE", required = true)]
    pub corpus: Vec<PathBuf>,

    /// What is learnt: `distillation`, block after block what the original's blocks give, the fastest
    /// repair; or `language`, the next token through the whole model, best after it.
    #[arg(long, default_value = "language")]
    pub objective: Objective,

    /// What is trained, a list: `lrc`, the low-rank components; `factors`, those and the weights that
    /// stayed whole; `norms`, the scales of the norms.
    #[arg(long, value_name = "LIST", default_value = "lrc")]
    pub train: Trained,

    /// Steps of the optimiser; for distillation, those of each block [default: two rounds of the corpus].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub steps: Option<usize>,

    /// Windows per step, whose gradients are accumulated.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub batch: usize,

    /// Tokens per window [default: as --ctx, or 512].
    #[arg(long, value_name = "N")]
    pub train_ctx: Option<usize>,

    /// The largest learning rate; it rises over the first twentieth of the steps and falls as a cosine.
    #[arg(long, default_value_t = 1e-3, value_parser = positive)]
    pub rate: f64,

    /// Gradients longer than this are cut to it.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    pub clip: f64,

    /// Weight decay, as a fraction of the rate.
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub decay: f64,

    /// Windows at the ends of the texts that are held out to decide when to stop.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    pub held_out: usize,

    /// Steps between two looks at them; a killed training goes on from the last look, a distillation from
    /// the last block.
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = at_least_one)]
    pub every: usize,

    /// Looks without a better loss after which training stops; the best is what is written.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub patience: usize,

    /// Decides the order of the windows.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Number format of all tensors: f32, f16 or bf16 [default: the model's own]. A coarse one swallows
    /// small changes.
    #[arg(long, value_name = "FORMAT")]
    pub dtype: Option<Format>,

    /// The directory to write; it must not exist.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,

    /// Replace the output, if it exists and is an earlier output or empty, and what another training
    /// to the same place has left.
    #[arg(long)]
    pub force: bool,

    /// Write the loss curve as JSON.
    #[arg(long, value_name = "FILE.json")]
    pub log: Option<PathBuf>,

    /// Draw the loss curve.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    /// Don't run the models afterwards.
    #[arg(long)]
    pub no_evaluate: bool,

    #[command(flatten)]
    pub text: Text,
    #[command(flatten)]
    pub printing: Printing,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| "a whole number above 0".into())
}

fn positive(text: &str) -> Result<f64, String> {
    let number = not_negative(text).ok().filter(|&number| number > 0.0);
    number.ok_or_else(|| "a number above 0".into())
}

fn not_negative(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    let number = number.filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "a number of at least 0".into())
}

impl Tune {
    /// How to train on so many windows.
    pub fn options(&self, windows: usize) -> Options {
        let steps = self.steps.unwrap_or(2 * windows.div_ceil(self.batch));
        Options {
            trained: self.train,
            steps,
            batch: self.batch,
            rate: self.rate,
            warm_up: steps / 20,
            clip: self.clip,
            decay: self.decay,
            interval: self.every,
            patience: self.patience,
            seed: self.seed,
        }
    }
}

/// What training makes small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Objective {
    Language,
    Distillation,
}

impl Objective {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Language => "language",
            Self::Distillation => "distillation",
        }
    }
}

#[derive(Debug, Args)]
pub struct Compare {
    #[command(flatten)]
    pub model: Model,

    /// A TOML file with a table for each variant: `[name]`, `method = "svd"`, and any option of `run`
    /// by its name, such as `keep = 0.9` or `refit = true`.
    #[arg(value_name = "VARIANTS.toml")]
    pub variants: Option<PathBuf>,

    /// In place of a file: these methods at every fraction of --keep.
    #[arg(
        long,
        value_name = "METHOD,...",
        value_delimiter = ',',
        conflicts_with = "variants"
    )]
    pub methods: Vec<String>,

    /// The fractions that go with --methods.
    #[arg(
        long,
        value_name = "FRACTION,...",
        value_delimiter = ',',
        requires = "methods"
    )]
    pub keep: Vec<String>,

    /// Keep the models, each in a folder named after its variant, in this one.
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Draw perplexity against bytes.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    #[command(flatten)]
    pub text: Text,
    #[command(flatten)]
    pub calibration: Calibrating,
    #[command(flatten)]
    pub printing: Printing,
}
