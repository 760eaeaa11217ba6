//! The errors between a weight and its factor: damaged weights, missing measurements, plans that do not fit.

use crate::{Group, Shape, Site};

/// The result of everything that touches weights.
pub type Result<T> = std::result::Result<T, Error>;

/// One variant per cause; each names the site where there is one, so that the message tells what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A weight holds a NaN or an infinity. Refused at once: one such number makes every eigenvalue a NaN.
    #[error("{site}: the weight holds {value} at row {row}, column {column}; the model is damaged")]
    NonFinite {
        /// Where.
        site: Site,
        /// Row (output feature) of the first such number.
        row: usize,
        /// Column (input feature) of the first such number.
        column: usize,
        /// The number.
        value: f32,
    },

    /// A step asks for a rank that the weight cannot have.
    #[error("{site}: rank {rank} is not within 1..={limit} for a {shape} weight")]
    Rank {
        /// Where.
        site: Site,
        /// The rank asked for.
        rank: usize,
        /// The largest possible: min(out, in).
        limit: usize,
        /// The weight's shape.
        shape: Shape,
    },

    /// A plan touches a weight that the model does not have, or that is factored already.
    #[error(
        "the model has no whole weight of a block at {site}; what is factored already is not cut again, and embedding and head are only rounded, by --embedding-bits"
    )]
    NoSuchSite {
        /// Where.
        site: Site,
    },

    /// A method needs measurements, and the survey has no evidence.
    #[error("{site}: the method needs {what} measured on a calibration text, and there are none")]
    NoEvidence {
        /// Where.
        site: Site,
        /// The missing measurement, in words.
        what: &'static str,
    },

    /// A site without a layer input that is measured: embedding or head.
    #[error("{site}: no activations are measured there")]
    NotMeasured {
        /// Where.
        site: Site,
    },

    /// All measurements at a site are zero: its layer input vanishes on the calibration text.
    #[error(
        "{site}: all {what} on the calibration text are zero, so they say nothing about this weight; use another text, or leave the weight out by --skip"
    )]
    NoSignal {
        /// Where.
        site: Site,
        /// The measurement that is zero, in words.
        what: &'static str,
    },

    /// A plan touches one weight twice.
    #[error("{site}: the plan has two steps for this weight; keep one of them")]
    Twice {
        /// Where.
        site: Site,
    },

    /// Atoms that weights share, of which a plan or a model says something that cannot be.
    #[error("{group}: {problem}")]
    Dictionary {
        /// The weights that share them.
        group: Group,
        /// What is wrong.
        problem: &'static str,
    },

    /// Options of a method that do not go together, or leave it nothing to do.
    #[error("{method}: {problem}")]
    Options {
        /// The method.
        method: &'static str,
        /// What is wrong, and what to do.
        problem: &'static str,
    },

    /// A method was asked for atoms, whose steps make none.
    #[error("{method} makes no atoms that weights could share")]
    NothingShared {
        /// The method.
        method: &'static str,
    },

    /// Not JSON, not a plan, or a plan with an unknown field.
    #[error("not a plan that this method can carry out")]
    Plan(#[source] serde_json::Error),

    /// A plan in a format version that is not read.
    #[error(
        "the plan has `version` {found}, but {known} is what is read; make it anew by `compress plan`"
    )]
    PlanVersion {
        /// The version in the file; `none` where there is none.
        found: String,
        /// The version that is read.
        known: u64,
    },

    /// A plan whose steps are of a kind that this method does not carry out.
    #[error(
        "the plan has steps of `kind` {found}, but this method carries out {wanted}; give it to {maker}, or make another by `compress plan`"
    )]
    PlanKind {
        /// The kind in the file; `none` where there is none.
        found: String,
        /// The kind that the method carries out.
        wanted: &'static str,
        /// The method in the file, which can carry it out.
        maker: String,
    },

    /// A number of a plan above every sensible value, which would cost time or memory without bound.
    #[error("{site}: {what} {found} is above {limit}, the most that makes sense")]
    TooMany {
        /// Where.
        site: Site,
        /// The field's name, in words.
        what: &'static str,
        /// Its value.
        found: usize,
        /// The largest value that is accepted.
        limit: usize,
    },

    /// A kept fraction outside (0, 1].
    #[error("keep {keep} is not above 0 and at most 1")]
    Budget {
        /// The number given.
        keep: f64,
    },

    /// A word that should name a site, a role, a layer range or a pattern.
    #[error("`{text}` is not {expected}")]
    Parse {
        /// The text.
        text: String,
        /// The kind of text that would have been accepted, with an example.
        expected: &'static str,
    },

    /// A group size that does not divide a weight's inputs.
    #[error(
        "groups of {group} do not divide the {} inputs of a {shape} weight; these do: {}",
        shape.cols, list(fits)
    )]
    Group {
        /// Inputs per group.
        group: usize,
        /// The weight's shape.
        shape: Shape,
        /// Group sizes that divide the inputs.
        fits: Vec<usize>,
    },

    /// A rounding method that needs H, called without one.
    #[error("{what} needs the activations of a calibration text")]
    Unmeasured {
        /// The method.
        what: &'static str,
    },

    /// Codes, scales or zero points that do not make a quantised weight: a wrong count, a value out of range.
    #[error("a quantised weight's {what} {fault}")]
    Packed {
        /// The part at fault.
        what: &'static str,
        /// The fault, with the number found.
        fault: String,
    },

    /// An error of linear algebra or of packed integers: shapes that do not fit, an eigensolver that does not converge.
    #[error(transparent)]
    Numerics(#[from] compress_numerics::Error),

    /// The source of the weights or of the evidence failed, with its own error: most often a file.
    #[error(transparent)]
    Source(Box<dyn std::error::Error + Send + Sync>),
}

/// Numbers separated by commas.
fn list(numbers: &[usize]) -> String {
    let words: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    words.join(", ")
}

impl Error {
    /// Wraps an error of the source of weights or evidence.
    pub fn source(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Source(error.into())
    }
}
