//! Several groups of packed weights in one model: which of them a weight belongs to, read and written.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{fs, path::Path};

use common::{fixture, settings, written};
use compress_checkpoint::{Checkpoint, OutputSpec, names};
use compress_core::{Bits, Edit, Factor, Form, Quantised, Role, Scheme, Site, Store};
use serde_json::{Value, json};

const FOUR: Scheme = Scheme::symmetric(Bits::Four, Some(16));
const EIGHT: Scheme = Scheme {
    bits: Bits::Eight,
    group: None,
    symmetric: false,
};

/// The scheme of a site: 8 bits for `down` and what else is sensitive, floats for one.
fn scheme(site: Site) -> Option<Scheme> {
    match site {
        Site::Block {
            role: Role::Down, ..
        } => Some(EIGHT),
        Site::Block {
            layer: 1,
            role: Role::Gate,
        } => None,
        Site::Block { .. } => Some(FOUR),
        _ => None,
    }
}

/// The weights of the blocks, rounded.
fn edits(source: &Checkpoint) -> Vec<Edit> {
    let rounded = |site| {
        let scheme = scheme(site)?;
        let weight = source.factor(site).unwrap().dense().unwrap();
        let rounded = Quantised::nearest(&weight, scheme).unwrap();
        Some(Edit {
            site,
            factor: Factor::Whole(Store::Quantised(rounded)),
            error: 0.0,
        })
    };
    Site::blocks(2).filter_map(rounded).collect()
}

/// A model with two schemes, as it is written here.
fn mixed(target: &Path) -> Checkpoint {
    let source = Checkpoint::open(&fixture("llama_biased")).unwrap();
    let edits = edits(&source);
    let forms = edits.iter().map(|edit| (edit.site, edit.factor.form()));
    let spec = OutputSpec {
        forms: forms.collect(),
        format: None,
    };
    written(&source, &spec, &edits, target)
}

/// Gives a model other groups, and another list of what is in none.
fn regroup(model: &Path, groups: &Value, ignore: &Value) {
    let mut json = settings(model);
    json["quantization_config"]["config_groups"] = groups.clone();
    json["quantization_config"]["ignore"] = ignore.clone();
    fs::write(model.join("config.json"), json.to_string()).unwrap();
}

/// A group with these targets.
fn group(scheme: Scheme, targets: &Value) -> Value {
    json!({
        "targets": targets, "format": "pack-quantized",
        "weights": {
            "num_bits": scheme.bits.count(), "type": "int", "symmetric": scheme.symmetric,
            "strategy": if scheme.group.is_some() { "group" } else { "channel" },
            "group_size": scheme.group,
        },
    })
}

#[test]
fn weights_of_two_schemes_are_written_as_two_groups_and_come_back() {
    let place = tempfile::tempdir().unwrap();
    let source = Checkpoint::open(&fixture("llama_biased")).unwrap();
    let output = mixed(&place.path().join("out"));
    for edit in edits(&source) {
        assert_eq!(output.factor(edit.site).unwrap(), edit.factor);
    }
    let block = &settings(output.path())["quantization_config"];
    let groups = block["config_groups"].as_object().unwrap();
    let targets = groups.values().map(|group| {
        let targets = group["targets"].as_array().unwrap().iter();
        targets.map(|it| it.as_str().unwrap().to_owned()).collect()
    });
    let mut targets: Vec<Vec<String>> = targets.collect();
    targets.sort_by_key(Vec::len);
    let modules = |wanted: Scheme| {
        let sites = Site::blocks(2).filter(|site| scheme(*site) == Some(wanted));
        sites.map(names::module).collect::<Vec<_>>()
    };
    assert_eq!(targets, [modules(EIGHT), modules(FOUR)]);
    assert_eq!(
        block["ignore"],
        json!(["lm_head", "model.layers.1.mlp.gate_proj"])
    );
    // What is rounded later, by a third scheme, leaves the others as they are.
    let site = Site::new(1, Role::Gate);
    let third = Scheme::symmetric(Bits::Eight, Some(32));
    let weight = output.factor(site).unwrap().dense().unwrap();
    let edit = Edit {
        site,
        factor: Factor::Whole(Store::Quantised(
            Quantised::nearest(&weight, third).unwrap(),
        )),
        error: 0.0,
    };
    let spec = OutputSpec {
        forms: [(site, edit.factor.form())].into(),
        format: None,
    };
    let edits = [edit];
    let again = written(&output, &spec, &edits, &place.path().join("again"));
    for other in Site::blocks(2).filter(|other| *other != site) {
        assert_eq!(again.factor(other).unwrap(), output.factor(other).unwrap());
    }
    assert_eq!(again.factor(site).unwrap(), edits[0].factor);
    let block = &settings(again.path())["quantization_config"];
    assert_eq!(block["config_groups"].as_object().unwrap().len(), 3);
}

#[test]
fn one_scheme_is_still_one_group_for_all_linear_layers() {
    let place = tempfile::tempdir().unwrap();
    let source = Checkpoint::open(&fixture("llama_biased")).unwrap();
    let edits = edits(&source).into_iter();
    let edits: Vec<Edit> = edits
        .filter(|edit| scheme(edit.site) == Some(EIGHT))
        .collect();
    let forms = edits.iter().map(|edit| (edit.site, edit.factor.form()));
    let spec = OutputSpec {
        forms: forms.collect(),
        format: None,
    };
    let output = written(&source, &spec, &edits, &place.path().join("out"));
    let block = &settings(output.path())["quantization_config"];
    assert_eq!(
        block["config_groups"]["group_0"]["targets"],
        json!(["Linear"])
    );
    assert_eq!(block["ignore"].as_array().unwrap().len(), 13);
}

#[test]
fn embedding_and_head_may_be_rounded_differently() {
    let place = tempfile::tempdir().unwrap();
    let source = Checkpoint::open(&fixture("llama_biased")).unwrap();
    let schemes = [(Site::Embedding, 4), (Site::Head, 8)].map(|(site, bits)| {
        let scheme = Scheme::symmetric(Bits::try_from(bits).unwrap(), None);
        (site, Form::quantised(scheme, 0))
    });
    let spec = OutputSpec {
        forms: schemes.into(),
        format: None,
    };
    let output = written(&source, &spec, &[], &place.path().join("out"));
    for (site, form) in schemes {
        assert_eq!(output.forms()[&site], form);
    }
}

#[test]
fn every_kind_of_target_says_what_it_says_in_compressed_tensors() {
    let place = tempfile::tempdir().unwrap();
    let output = mixed(&place.path().join("out"));
    let expected: Vec<_> = Site::blocks(2)
        .map(|it| output.factor(it).unwrap())
        .collect();
    let downs = json!([
        "model.layers.0.mlp.down_proj",
        "model.layers.1.mlp.down_proj"
    ]);
    let ignore = json!(["lm_head", "re:.*layers\\.1\\.mlp\\.gate"]);
    for groups in [
        json!({ "a": group(FOUR, &json!(["Linear"])), "b": group(EIGHT, &downs) }),
        json!({ "b": group(EIGHT, &json!(["re:.*down_proj"])), "a": group(FOUR, &json!(["Linear"])) }),
        json!({ "a": group(FOUR, &json!(["re:.*_proj"])), "b": group(EIGHT, &downs) }),
        // Patterns in the order of their text, not of the groups.
        json!({ "a": group(FOUR, &json!(["re:model"])), "b": group(EIGHT, &json!(["re:.*down_proj$"])) }),
        // The later of two groups with one target.
        json!({ "a": group(EIGHT, &json!(["Linear", "re:.*down"])), "b": group(FOUR, &json!(["Linear"])) }),
    ] {
        regroup(output.path(), &groups, &ignore);
        let read = Checkpoint::open(output.path()).unwrap();
        let found: Vec<_> = Site::blocks(2).map(|it| read.factor(it).unwrap()).collect();
        assert_eq!(found, expected, "{groups}");
    }
}

#[test]
fn a_packed_weight_that_is_in_no_group_is_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let output = mixed(&place.path().join("out"));
    let all = json!({ "a": group(FOUR, &json!(["Linear"])) });
    let some = json!({ "a": group(FOUR, &json!(["re:layers"])) });
    let strange = json!({ "a": group(FOUR, &json!(["re:(?=model)"])) });
    for (groups, ignore, words) in [
        (
            &all,
            json!(["re:.*q_proj"]),
            ["q_proj.weight_packed", "no group"],
        ),
        (&all, json!(["Linear"]), ["weight_packed", "no group"]),
        (&some, json!([]), ["weight_packed", "no group"]),
        // 4 bits of `down_proj` would be half as many words.
        (
            &all,
            json!([]),
            ["down_proj.weight_packed", "config.json asks for"],
        ),
        (&strange, json!([]), ["re:(?=model)", "not supported"]),
        (
            &all,
            json!(["re:(?=model)"]),
            ["re:(?=model)", "not supported"],
        ),
        (&all, json!("lm_head"), ["ignore", "lm_head"]),
        (&all, json!([1]), ["ignore", "[1]"]),
    ] {
        regroup(output.path(), groups, &ignore);
        let error = Checkpoint::open(output.path()).err().unwrap().to_string();
        for word in words {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
    }
}
