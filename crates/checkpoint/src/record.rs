//! `compression.json`: the method, its options, the source model and the measured errors of an
//! output.
//!
//! The file lies beside the weights. It makes an output reproducible, and marks a directory as one
//! that this program may replace under `--force`.

use std::fs;

use compress_core::SourceId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Checkpoint;

/// The contents of `compression.json`. Fields of type `Value` belong to other crates, which define
/// their form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The program and its version.
    pub made_by: String,
    /// The method.
    pub method: String,
    /// The method's own options.
    #[serde(default)]
    pub options: Value,
    /// The calibration text, its windows and tokens; absent where the method measures nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Value>,
    /// The refit target, under its older name `aim` in the file; null where all weights were
    /// compressed at once.
    #[serde(default, rename = "aim")]
    pub refit: Value,
    /// The name and digest of the model that was compressed.
    pub source: SourceId,
    /// Number format of the computed tensors, such as `bf16`.
    pub format: String,
    /// Whether low-rank pairs were multiplied out, so that every weight is one matrix of its old
    /// shape.
    pub dense: bool,
    /// The plan, in the form in which `--plan` takes it.
    pub plan: Value,
    /// Figures that decided the plan beside options and budget, such as those of the logit lens; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<Value>,
    /// ‖W − Ŵ‖² / ‖W‖² of every changed weight, in the norm that the method minimises. W is the
    /// refit target where there was one, else the original weight.
    pub errors: Value,
    /// Perplexity, KL divergence and latency of both models; absent where no evaluation was asked
    /// for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Value>,
    /// The record of the source, where the source is itself an output: the whole history, innermost
    /// last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
}

impl Record {
    /// Reads the record beside a model's weights. None where there is none or it is not JSON, since
    /// a model without a record is a valid source; a GGUF file has none.
    #[must_use]
    pub fn of(model: &Checkpoint) -> Option<Value> {
        let text = fs::read_to_string(model.path().join(FILE)).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// The name of the record in an output directory.
pub const FILE: &str = "compression.json";
