//! The cache policy of a model: `cache_policy.json` beside its weights.

use std::path::Path;

use compress_think::Policy;

use crate::{Config, Error, Result, read::directory};

/// The file's name.
pub const CACHE_POLICY: &str = "cache_policy.json";

/// The policy in a model's folder; none where there is none.
pub fn beside(root: &Path, config: &Config) -> Result<Option<Policy>> {
    let path = root.join(CACHE_POLICY);
    path.is_file()
        .then(|| read_policy(&path, config))
        .transpose()
}

/// Reads a cache policy, for the model with this config. Fails where it has a field that is not known, makes no sense,
/// or is of another model.
pub fn read_policy(path: &Path, config: &Config) -> Result<Policy> {
    let policy: Policy = serde_json::from_value(directory::read_json(path)?)
        .map_err(|e| Error::damaged(path, e.to_string()))?;
    policy
        .check(config.head_shape())
        .map_err(|e| Error::damaged(path, e.to_string()))?;
    Ok(policy)
}
