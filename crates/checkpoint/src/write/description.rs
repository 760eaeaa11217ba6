//! `quantization_config` and `adapter_config.json` of an output, as compressed-tensors and PEFT
//! read them.

use compress_core::{Form, Precision, Scheme, Shape, Site};
use serde_json::{Map, Value, json};

use crate::{Layout, Schemes, huggingface::quantisation::FORMAT, names, write::schemes::schemes};

/// `adapter_config.json` for the corrections of an output; none where there are none. `lora_alpha`
/// equals `r`, so that the factor of B · A is 1. The base model is `..`, the output around the
/// folder.
pub fn adapter(layout: &Layout) -> Option<Value> {
    let corrected: Vec<_> = layout.corrections().collect();
    let (_, rank) = corrected.first()?;
    // Full module names: PEFT matches suffixes, and a role name would match every layer.
    let modules: Vec<String> = corrected
        .iter()
        .map(|(site, _)| names::module(*site))
        .collect();
    Some(json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "..",
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "target_modules": modules,
        "bias": "none",
        "init_lora_weights": true,
        "use_rslora": false,
        "use_dora": false,
        "fan_in_fan_out": false,
        "inference_mode": true,
        "modules_to_save": null,
        "layers_to_transform": null,
    }))
}

/// `quantization_config` for an output with rounded weights; none where all are floats. Embedding
/// and head are targeted by module name, the blocks by the class `Linear`. Where the blocks have
/// several schemes, that does not tell them apart, and each has a group with the names of its
/// modules.
pub fn quantization(layout: &Layout) -> Option<Value> {
    let Schemes { blocks, ends } = layout.schemes();
    let of_blocks = blocks.iter().map(|scheme| match blocks.len() {
        1 => group(*scheme, &["Linear".into()]),
        _ => group(*scheme, &rounded_by(*scheme, layout, true)),
    });
    let of_ends = ends
        .iter()
        .map(|scheme| group(*scheme, &rounded_by(*scheme, layout, false)));
    let groups: Vec<Value> = of_blocks.chain(of_ends).collect();
    if groups.is_empty() {
        return None;
    }
    let mut ignore = Vec::new();
    if !blocks.is_empty() {
        // The target `Linear` matches the head's module, which exists in transformers even where it
        // shares the embedding's matrix. vLLM wants every linear layer to be in a group or here.
        let head = layout.forms.get(&Site::Head);
        if head.is_none_or(|form| schemes(*form).next().is_none()) {
            ignore.push(names::module(Site::Head));
        }
        let blocks = layout.forms.iter();
        let blocks = blocks.filter(|(site, _)| site.role().is_some());
        let blocks = blocks.flat_map(|(site, form)| modules(*site, *form));
        let floats = blocks.chain(atoms(layout)).filter(|(module, precision)| {
            // The layers of a correction belong to the adapter and not to the model.
            *precision == Precision::Float && !module.starts_with(names::ADAPTER)
        });
        ignore.extend(floats.map(|(module, _)| module));
        ignore.extend(beside_the_decoder(layout));
    }
    let names = (0..).map(|index| format!("group_{index}"));
    Some(json!({
        "quant_method": "compressed-tensors",
        "format": FORMAT,
        "quantization_status": "compressed",
        "ignore": ignore,
        "config_groups": names.zip(groups).collect::<Map<_, _>>(),
    }))
}

/// The modules of the blocks, or of embedding and head, that are rounded by a scheme.
fn rounded_by(scheme: Scheme, layout: &Layout, of_blocks: bool) -> Vec<String> {
    let forms = layout.forms.iter();
    let forms = forms.filter(|(site, _)| site.role().is_some() == of_blocks);
    let modules = forms.flat_map(|(site, form)| modules(*site, *form));
    let atoms = of_blocks.then(|| atoms(layout)).into_iter().flatten();
    let by_it = modules
        .chain(atoms)
        .filter(|(_, precision)| precision.scheme() == Some(scheme));
    by_it.map(|(module, _)| module).collect()
}

/// The modules of atoms, with how the numbers of each are kept.
fn atoms(layout: &Layout) -> impl Iterator<Item = (String, Precision)> {
    let forms = layout.dictionaries().into_values();
    forms.map(|form| (names::dictionary(form.group), form.precision))
}

/// The modules of a form, with how the numbers of each are kept.
fn modules(site: Site, form: Form) -> impl Iterator<Item = (String, Precision)> {
    // The shape decides nothing of that.
    let stores = form.stores(Shape::new(0, 0)).into_iter();
    let modules = names::modules(site, form).into_iter().zip(stores);
    modules.map(|(module, (precision, _))| (module, precision))
}

/// Matrices of neither the decoder nor its head, such as a classifier's: they are copied, and their layers would match
/// the target `Linear`.
fn beside_the_decoder(layout: &Layout) -> impl Iterator<Item = String> {
    let matrices = layout
        .tensors
        .iter()
        .filter(|tensor| tensor.shape.len() == 2);
    let modules = matrices.filter_map(|tensor| tensor.name.strip_suffix(".weight"));
    let others = modules.filter(|module| {
        names::block(module).is_none()
            && !names::is_of_dictionary(module)
            && names::site(module).is_none()
            && !module.starts_with(names::ADAPTER)
    });
    others.map(Into::into)
}

/// A group with one scheme. `channel` means a scale for each row, with `group_size` null.
fn group(scheme: Scheme, targets: &[String]) -> Value {
    let strategy = if scheme.group.is_some() {
        "group"
    } else {
        "channel"
    };
    json!({
        "targets": targets,
        "format": FORMAT,
        "weights": {
            "num_bits": scheme.bits.count(),
            "type": "int",
            "symmetric": scheme.symmetric,
            "strategy": strategy,
            "group_size": scheme.group,
            "dynamic": false,
        },
    })
}
