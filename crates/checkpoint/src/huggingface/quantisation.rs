//! Rounded weights as compressed-tensors has them: the block in `config.json`.
//!
//! The weights of the blocks are one group with the target `Linear`, embedding and head another with
//! their names, `format` repeated within each: loaders take it from there. What stays whole is named in
//! `ignore`.

use std::{collections::BTreeMap, path::Path};

use compress_core::{Bits, Form, Scheme, Shape, Site};
use serde_json::{Map, Value};

use crate::{
    Error, Result,
    huggingface::settings::{is_off, only_known},
    names,
};

/// The name of the one format of packed codes.
pub const FORMAT: &str = "pack-quantized";

/// How the weights of a model are rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schemes {
    /// That of the blocks; none where they are not.
    pub blocks: Option<Scheme>,
    /// That of embedding and head; none where they are not.
    pub ends: Option<Scheme>,
}

/// Reads the schemes from `quantization_config`.
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
    let sparsity = &block["sparsity_config"];
    if !is_off(sparsity) && sparsity["format"] != "dense" {
        return Err(wrong("has a `sparsity_config`".into()));
    }
    let groups = block["config_groups"].as_object();
    for group in groups.into_iter().flat_map(Map::values) {
        only_known_in(group, GROUP).map_err(wrong)?;
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
        if place.replace(scheme).is_some() {
            return Err(wrong(format!(
                "has the targets {} in a second group",
                group["targets"]
            )));
        }
    }
    Ok(schemes)
}

/// The names that are read of some settings, and those that change nothing.
type Known = [&'static [&'static str]; 2];

/// Of the whole block. Which modules are not rounded, their tensors say.
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

/// Of a group. Which modules it is for, their tensors say; what is rounded while the model runs is not.
const GROUP: Known = [&["targets", "weights", "format"], &[]];

/// Of a group's weights. Observers and orders have done their work when codes are written; the types are
/// those of the tensors.
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

fn only_known_in(settings: &Value, known: Known) -> std::result::Result<(), String> {
    settings
        .as_object()
        .map_or(Ok(()), |settings| only_known(settings, known))
}

/// Whether all targets of a group are embeddings and heads.
fn is_of_ends(targets: &Value) -> bool {
    let ends = [Site::Embedding, Site::Head].map(names::module);
    let known: Vec<Value> = ends.into_iter().map(Value::from).collect();
    let known = |target: &Value| *target == "Embedding" || known.contains(target);
    let targets = targets.as_array();
    let all_known = |targets: &Vec<Value>| !targets.is_empty() && targets.iter().all(known);
    targets.is_some_and(all_known)
}

/// The scheme that a group gives its weights; in words what is wrong, where something is.
fn scheme(weights: &Value) -> std::result::Result<Scheme, String> {
    only_known_in(weights, WEIGHTS)?;
    if !weights["type"].is_null() && weights["type"] != "int" {
        return Err(format!("has weights of the type {}", weights["type"]));
    }
    // In the order of `weight` and `static` columns were only rounded; by `group` they are also grouped.
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
    /// How the weights of these forms are rounded, by the first of blocks and of ends that is.
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

/// The schemes of all matrices of a form.
pub fn schemes(form: Form) -> impl Iterator<Item = Scheme> {
    // The shape decides nothing of how numbers are kept.
    let stores = form.stores(Shape::new(0, 0)).into_iter();
    stores.filter_map(|(precision, _)| precision.scheme())
}

/// Refuses forms of which `quantization_config` and one adapter cannot tell: a second scheme of the blocks, or a
/// second rank of their corrections.
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
        let same_rank = its == 0 || rank.is_none_or(|rank| rank == its);
        same_rank && schemes(form).all(|its| Some(its) == scheme)
    };
    match rounded().find(|(_, form)| !alike(**form)) {
        Some((&site, _)) => Err(Error::Mixed { site, other }),
        None => Ok(()),
    }
}
