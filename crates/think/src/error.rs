//! What can be wrong with a policy.

/// The result of checking a policy.
pub type Result<T> = std::result::Result<T, Error>;

/// One variant per cause.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number that makes no sense.
    #[error("{name} is {value}, but it should be {wanted}")]
    Setting {
        /// The name of the setting in the policy's file.
        name: &'static str,
        /// What it is.
        value: f64,
        /// What would do.
        wanted: &'static str,
    },

    /// Settings that exclude each other.
    #[error("{problem}")]
    Together {
        /// Which, and why.
        problem: &'static str,
    },

    /// The policy of another model.
    #[error(
        "the policy was made for a model of {made_for}, but this one has {model}; make one for it by `compress run think`"
    )]
    Model {
        /// The shape that it was made for.
        made_for: crate::HeadShape,
        /// The shape of the model at hand.
        model: crate::HeadShape,
    },
}
