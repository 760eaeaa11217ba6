//! `compression.json`: what was done to a model, to which one, and what it cost.

use std::fs;

use compress_core::SourceId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Checkpoint;

/// The contents of `compression.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The program and its version.
    pub made_by: String,
    /// The method.
    pub method: String,
    /// The method's own options.
    #[serde(default)]
    pub options: Value,
    /// The text that its evidence was measured on; absent where it needed none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Value>,
    /// The refit target; null where all weights were compressed at once.
    #[serde(default, rename = "aim")]
    pub refit: Value,
    /// The model it was made from.
    pub source: SourceId,
    /// Number format of the computed tensors.
    pub format: String,
    /// Whether the factors were multiplied out again.
    pub dense: bool,
    /// The plan, in the form in which `--plan` takes it.
    pub plan: Value,
    /// ‖W − Ŵ‖² / ‖W‖² of every changed weight, in the norm that the method minimises; W is what the
    /// method aimed at.
    pub errors: Value,
    /// The figures of both models, run over a text; absent where that was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Value>,
    /// The record of the model it was made from, where that was an output as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
}

impl Record {
    /// The record that lies beside a model's weights; none where it is no output.
    #[must_use]
    pub fn of(model: &Checkpoint) -> Option<Value> {
        let text = fs::read_to_string(model.path().join(FILE)).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// The file's name.
pub const FILE: &str = "compression.json";
