//! Names, forms and contents agree with each other, in both directions.

use std::collections::BTreeMap;

use compress_core::{PairForm, testing::factors};

use super::*;

#[test]
fn every_name_of_a_site_is_read_back() {
    let ends = [Site::Embedding, Site::Head];
    for site in Site::blocks(12).chain(ends) {
        assert_eq!(site_of_weight(&weight(site)), Some(site));
    }
    for name in [
        "model.norm.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.x.mlp.up_proj.weight",
        "lm_head",
    ] {
        assert_eq!(site_of_weight(name), None);
    }
}

#[test]
fn a_form_is_found_again_by_the_tensors_that_it_lists() {
    // The factors that share atoms are of queries.
    let site = Site::new(3, Role::Query);
    // What an adapter can hold, and belongs beside.
    let in_files = |form: Form| match form {
        Form::Sum { base, correction } => {
            base != Precision::Float && correction == PairForm::float(correction.rank)
        }
        _ => true,
    };
    for factor in factors(5, 8).unwrap() {
        let (form, shape) = (factor.form(), factor.shape());
        if !in_files(form) {
            continue;
        }
        let mut parts = parts(site, form, shape);
        if let Some(atoms) = form.dictionary() {
            parts.extend(dictionary_parts(atoms, shape));
        }
        let shapes: BTreeMap<&str, &[usize]> = parts
            .iter()
            .map(|part| (part.name.as_str(), part.shape.as_slice()))
            .collect();
        let stores = form.stores(shape).into_iter();
        let precisions = stores.map(|(precision, _)| precision);
        let atoms = form.dictionary().map(|atoms| atoms.precision);
        let scheme = precisions.chain(atoms).find_map(Precision::scheme);
        let found = find(site, |name| shapes.get(name).copied(), |_| scheme);
        assert_eq!(found, Ok(form));
    }
}

#[test]
fn every_form_lists_the_tensors_and_bytes_of_its_factor() {
    let site = Site::Embedding;
    for factor in factors(5, 8).unwrap() {
        let (form, shape) = (factor.form(), factor.shape());
        let (mut told, mut found) = (parts(site, form, shape), contents(site, &factor));
        if let Some(atoms) = factor.dictionary() {
            told.extend(dictionary_parts(atoms.form(), shape));
            found.extend(dictionary_contents(atoms));
        }
        assert_eq!(told.len(), found.len());
        for (part, (name, contents)) in told.iter().zip(found) {
            assert_eq!(part.name, name);
            let count: usize = part.shape.iter().product();
            match contents {
                Contents::Floats(m) => assert_eq!(part.shape, [m.rows(), m.cols()]),
                Contents::Bytes(bytes) => {
                    assert_eq!(bytes.len(), count * part.numbers.bytes(Format::F32));
                }
            }
        }
    }
}
