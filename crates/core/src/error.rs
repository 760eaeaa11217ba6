//! What can go wrong between a weight and its factor.

use crate::{Shape, Site};

/// The result of everything that touches weights.
pub type Result<T> = std::result::Result<T, Error>;

/// One variant per cause; each names the site where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A weight with a NaN or an infinity in it.
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
        /// The largest possible.
        limit: usize,
        /// The weight's shape.
        shape: Shape,
    },

    /// A plan touches a weight that the model does not have, or has as factors.
    #[error("the model has no whole weight at {site}; what is factored already is not cut again")]
    NoSuchSite {
        /// Where.
        site: Site,
    },

    /// A method asks for measurements that were not taken.
    #[error("{site}: the method needs {what} measured on a calibration text, and there are none")]
    NoEvidence {
        /// Where.
        site: Site,
        /// What is missing.
        what: &'static str,
    },

    /// A weight that no measurement is made for.
    #[error("{site}: no activations are measured there")]
    NotMeasured {
        /// Where.
        site: Site,
    },

    /// Measurements that are all zero.
    #[error(
        "{site}: all {what} on the calibration text are zero, so they say nothing about this weight; use another text, or leave the weight out by --skip"
    )]
    NoSignal {
        /// Where.
        site: Site,
        /// What is zero.
        what: &'static str,
    },

    /// A plan touches one weight twice.
    #[error("{site}: the plan has two steps for this weight; keep one of them")]
    Twice {
        /// Where.
        site: Site,
    },

    /// A text that is no plan, or one with a field that is not known.
    #[error("not a plan that this method can carry out")]
    Plan(#[source] serde_json::Error),

    /// A plan of another version.
    #[error(
        "the plan has `version` {found}, but {known} is what is read; make it anew by `compress plan`"
    )]
    PlanVersion {
        /// What it says.
        found: String,
        /// What it should.
        known: u64,
    },

    /// A plan whose steps are another method's.
    #[error(
        "the plan has steps of `kind` {found}, but this method carries out {wanted}; give it to {maker}, or make another by `compress plan`"
    )]
    PlanKind {
        /// What it says.
        found: String,
        /// What the method's steps are.
        wanted: &'static str,
        /// Who can carry it out.
        maker: String,
    },

    /// A number of a plan that nobody can mean.
    #[error("{site}: {what} {found} is above {limit}, the most that makes sense")]
    TooMany {
        /// Where.
        site: Site,
        /// Which number.
        what: &'static str,
        /// What it is.
        found: usize,
        /// The largest possible.
        limit: usize,
    },

    /// A fraction outside (0, 1].
    #[error("keep {keep} is not above 0 and at most 1")]
    Budget {
        /// The number given.
        keep: f64,
    },

    /// A word that should name a site, a role, a layer range or a pattern.
    #[error("`{text}` is not {expected}")]
    Parse {
        /// What was given.
        text: String,
        /// What would have been understood.
        expected: &'static str,
    },

    /// Groups of inputs that do not divide a weight's inputs.
    #[error(
        "groups of {group} do not divide the {} inputs of a {shape} weight; these do: {}",
        shape.cols, list(fits)
    )]
    Group {
        /// Inputs per group.
        group: usize,
        /// The weight's shape.
        shape: Shape,
        /// Group sizes that would do.
        fits: Vec<usize>,
    },

    /// A way to round that rests on measurements, without any.
    #[error("{what} needs the activations of a calibration text")]
    Unmeasured {
        /// Which way.
        what: &'static str,
    },

    /// Codes, scales or zero points that make no quantised weight.
    #[error("a quantised weight's {what} {fault}")]
    Packed {
        /// Which of its parts.
        what: &'static str,
        /// What is wrong with it.
        fault: String,
    },

    /// Linear algebra, or packed integers.
    #[error(transparent)]
    Numerics(#[from] compress_numerics::Error),

    /// The source of the weights failed.
    #[error(transparent)]
    Source(Box<dyn std::error::Error + Send + Sync>),
}

fn list(numbers: &[usize]) -> String {
    let words: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    words.join(", ")
}

impl Error {
    /// Wraps the error of whoever provides the weights.
    pub fn source(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Source(error.into())
    }
}
