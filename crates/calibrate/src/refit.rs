//! What weights behind compressed blocks are fitted to.

use compress_checkpoint::Checkpoint;
use serde::Serialize;

/// The output that a weight behind compressed blocks is fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefitTarget {
    /// t = W z: what the original weight would give for the compressed model's input.
    Inputs,
    /// t = what the original gives at this place; for weights that write to the residual stream, less what the stream
    /// of the compressed model already has.
    Original,
}

/// The compressed model under way, and how its later weights are fitted.
#[derive(Clone, Copy)]
pub struct Behind<'a> {
    /// The output so far: finished weights as they are stored, which is as later weights will meet them.
    pub written: &'a Checkpoint,
    /// The refit target of its weights.
    pub refit: RefitTarget,
}
