//! `quantization_config` in `config.json`: rounded weights in compressed-tensors' format
//! `pack-quantized`.
//!
//! The linear layers of the blocks form one group with the target `Linear`; embedding and head form
//! another whose targets are their module names. `format` is repeated in each group, where loaders
//! look for it. Modules that keep their floats are listed in `ignore`.
//!
//! Read here: integers of 2, 3, 4 or 8 bits with scales per group or per row, symmetric or with
//! zero points. A setting with another effect, such as rounded activations, is refused.

use std::{collections::BTreeMap, path::Path};

use compress_core::{Bits, Form, Scheme, Shape, Site};
use serde_json::{Map, Value};

use crate::{
    Error, Result,
    huggingface::settings::{is_off, only_known},
    names,
};

/// The packed format of compressed-tensors that is read and written.
pub const FORMAT: &str = "pack-quantized";

/// The quantization schemes of a model, at most one for the blocks and one for embedding and head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schemes {
    /// The scheme of the blocks' weights; none where they are floats.
    pub blocks: Option<Scheme>,
    /// The scheme of embedding and head; none where they are floats.
    pub ends: Option<Scheme>,
}

/// Reads `quantization_config`; no schemes where the field is missing or null. Fails for another
/// method or format, for a third group, and for any setting that is switched on and not known.
pub fn parse(json: &Map<String, Value>, path: &Path) -> Result<Schemes> {
    let mut schemes = Schemes::default();
    let Some(block) = json.get("quantization_config").filter(|v| !v.is_null()) else {
        return Ok(schemes);
    };
    let wrong = |problem: String| {
        let problem = format!(
            "`quantization_config` {problem}; only compressed-tensors' {FORMAT} is supported, with one group for the blocks and one for embedding and head"
        );
        Error::damaged(path, problem)
    };
    let method = &block["quant_method"];
    if method != "compressed-tensors" {
        return Err(wrong(format!("has the method {method}")));
    }
    only_known_in(block, BLOCK).map_err(wrong)?;
    if !matches!(
        block["quantization_status"].as_str(),
        None | Some("compressed")
    ) {
        let status = &block["quantization_status"];
        return Err(wrong(format!("has the `quantization_status` {status}")));
    }
    // `dense` is a sparsity setting without effect; others change how tensors are stored.
    let sparsity = &block["sparsity_config"];
    if !is_off(sparsity) && sparsity["format"] != "dense" {
        return Err(wrong("has a `sparsity_config`".into()));
    }
    let groups = block["config_groups"].as_object();
    for group in groups.into_iter().flat_map(Map::values) {
        only_known_in(group, GROUP).map_err(wrong)?;
        // Files of older versions have the format on the block only.
        let format = group.get("format").filter(|format| !format.is_null());
        let format = format.unwrap_or(&block["format"]);
        if format != FORMAT {
            return Err(wrong(format!("has the format {format}")));
        }
        let scheme = scheme(&group["weights"]).map_err(wrong)?;
        let place = if is_of_ends(&group["targets"]) {
            &mut schemes.ends
        } else {
            &mut schemes.blocks
        };
        // One scheme per place: a second group would make the scheme of a weight depend on matching
        // its module name.
        if place.replace(scheme).is_some() {
            return Err(wrong(format!(
                "has the targets {} in a second group",
                group["targets"]
            )));
        }
    }
    Ok(schemes)
}

/// Names of settings that are read, and of those without effect on finished weights.
type Known = [&'static [&'static str]; 2];

/// Settings of the block. `ignore` need not be read: whether a module is rounded shows in its
/// tensors.
const BLOCK: Known = [
    &[
        "quant_method",
        "config_groups",
        "format",
        "quantization_status",
        "sparsity_config",
    ],
    &[
        "ignore",
        "version",
        "global_compression_ratio",
        "run_compressed",
    ],
];

/// Settings of a group. Activation settings (`input_activations`, `output_activations`) are in
/// neither list, and so refused when they are on.
const GROUP: Known = [&["targets", "weights", "format"], &[]];

/// Settings of a group's weights. Observers acted while the codes were made; the dtypes of scales
/// and zero points are those of the tensors.
const WEIGHTS: Known = [
    &[
        "num_bits",
        "type",
        "symmetric",
        "strategy",
        "group_size",
        "actorder",
    ],
    &["observer", "observer_kwargs", "scale_dtype", "zp_dtype"],
];

/// Applies [`only_known`] to an object; anything else is checked where its fields are read.
fn only_known_in(settings: &Value, known: Known) -> std::result::Result<(), String> {
    settings
        .as_object()
        .map_or(Ok(()), |settings| only_known(settings, known))
}

/// Whether every target of a group is the embedding or the head, by module name or by the class
/// `Embedding`.
fn is_of_ends(targets: &Value) -> bool {
    let ends = [Site::Embedding, Site::Head].map(names::module);
    let known: Vec<Value> = ends.into_iter().map(Value::from).collect();
    let known = |target: &Value| *target == "Embedding" || known.contains(target);
    let targets = targets.as_array();
    let all_known = |targets: &Vec<Value>| !targets.is_empty() && targets.iter().all(known);
    targets.is_some_and(all_known)
}

/// The scheme of a group's weights, or the problem in words: a type other than `int`, a number of
/// bits or a strategy that is not supported, activation order with groups.
fn scheme(weights: &Value) -> std::result::Result<Scheme, String> {
    only_known_in(weights, WEIGHTS)?;
    if !weights["type"].is_null() && weights["type"] != "int" {
        return Err(format!("has weights of the type {}", weights["type"]));
    }
    // Under `weight` and `static`, columns are stored in their own order; under `group` each column
    // carries a group index, which is not read here.
    let order = &weights["actorder"];
    if !is_off(order) && !matches!(order.as_str(), Some("weight" | "static")) {
        return Err(format!(
            "has the `actorder` {order}, of which the groups are not read"
        ));
    }
    let bits = weights["num_bits"].as_u64();
    let bits = bits.and_then(|bits| u8::try_from(bits).ok());
    let bits = bits.and_then(|bits| Bits::try_from(bits).ok());
    let bits = bits.ok_or_else(|| format!("has {} bits", weights["num_bits"]))?;
    let (strategy, size) = (&weights["strategy"], &weights["group_size"]);
    // Where no strategy is named, the size of the groups tells it.
    let named = if strategy.is_null() {
        Some("")
    } else {
        strategy.as_str()
    };
    // compressed-tensors writes -1 or null as the group size of scales per row.
    let group = match (named, size.as_i64()) {
        (Some("" | "group"), Some(size @ 1..)) => Some(size as usize),
        (Some("channel"), None) if size.is_null() => None,
        (Some("channel" | ""), Some(-1)) => None,
        _ => {
            return Err(format!(
                "has the strategy {strategy} with `group_size` {size}"
            ));
        }
    };
    let symmetric = match &weights["symmetric"] {
        // The default of compressed-tensors.
        Value::Null => true,
        Value::Bool(symmetric) => *symmetric,
        other => return Err(format!("has `symmetric` {other}")),
    };
    Ok(Scheme {
        bits,
        group,
        symmetric,
    })
}

impl Schemes {
    /// The schemes of a set of forms: that of the first rounded weight among the blocks, and among
    /// the ends. `check` has made sure that the others are the same.
    #[must_use]
    pub fn of(forms: &BTreeMap<Site, Form>) -> Self {
        let first = |of_blocks: bool| {
            let mut sites = forms.iter();
            sites.find_map(|(site, form)| {
                let is_one = site.role().is_some() == of_blocks;
                is_one.then(|| schemes(*form).next()).flatten()
            })
        };
        Self {
            blocks: first(true),
            ends: first(false),
        }
    }
}

/// The schemes of all rounded matrices of a form: two where both factors of a pair are rounded.
pub fn schemes(form: Form) -> impl Iterator<Item = Scheme> {
    // The shape decides nothing of how numbers are kept.
    let stores = form.stores(Shape::new(0, 0)).into_iter();
    stores.filter_map(|(precision, _)| precision.scheme())
}

/// Refuses forms that one `quantization_config` and one adapter cannot express: a second scheme in
/// the blocks, or a second rank of their corrections. Fails with [`Error::Mixed`].
pub fn check(forms: &BTreeMap<Site, Form>) -> Result<()> {
    let blocks = || forms.iter().filter(|(site, _)| site.role().is_some());
    let rounded = || blocks().filter(|(_, form)| schemes(**form).next().is_some());
    let Some((&other, &first)) = rounded().next() else {
        return Ok(());
    };
    let scheme = schemes(first).next();
    let rank = blocks()
        .map(|(_, form)| form.correction())
        .find(|rank| *rank > 0);
    let alike = |form: Form| {
        let its = form.correction();
        // A weight without a correction goes with any rank.
        let same_rank = its == 0 || rank.is_none_or(|rank| rank == its);
        same_rank && schemes(form).all(|its| Some(its) == scheme)
    };
    match rounded().find(|(_, form)| !alike(**form)) {
        Some((&site, _)) => Err(Error::Mixed { site, other }),
        None => Ok(()),
    }
}
