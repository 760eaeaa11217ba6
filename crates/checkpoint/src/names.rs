//! The one table of names: from a site and the form of its weight to the tensors that it is stored as, and back.
//!
//! ```text
//! site         module M
//! embedding    model.embed_tokens
//! 3.query      model.layers.3.self_attn.q_proj
//! head         lm_head
//!
//! form         a module for each matrix
//! whole        M
//! low rank     M.down, M.up
//! sum          M, and as PEFT has them: base_model.model.M.lora_A (down), base_model.model.M.lora_B (up)
//! shared       M.coefficients, and M.down, M.up where there is a residual
//!
//! atoms        model.dictionaries.q_proj_3: those of the group that begins with layer 3
//!
//! norm         its scale
//! of a block   model.layers.3.input_layernorm.weight, .self_attn.q_norm, .self_attn.k_norm, .post_attention_layernorm
//! the last     model.norm.weight
//!
//! precision    tensors of a matrix
//! float        weight
//! quantised    weight_packed, weight_scale, weight_shape, weight_zero_point: compressed-tensors' `pack-quantized`
//! float        weight of one byte a number, weight_scale or weight_scale_inv, weight_zero_point: only read
//! ```
//!
//! Whoever needs the name, the shape or the number format of a tensor asks here.

use compress_core::{
    Dictionary, DictionaryForm, Factor, Form, Format, Group, Precision, Quantised, Role, Scheme,
    Shape, Site, Store,
};
use compress_numerics::{Matrix, packed::words};

/// The start of the name of every tensor of a PEFT adapter.
pub const ADAPTER: &str = "base_model.model.";

/// The start of the modules of all blocks.
const BLOCKS: &str = "model.layers.";

/// The start of the modules of all atoms.
const DICTIONARIES: &str = "model.dictionaries.";

/// The ranks that a file may claim: as large as any size in a `config.json`.
const MOST_RANK: usize = 1 << 24;

/// The ends of the names of scales that weights of one byte have: `fp8` calls them by the second.
pub const SCALES: [&str; 2] = ["weight_scale", "weight_scale_inv"];

/// The end of the name of zero points.
pub const ZEROS: &str = "weight_zero_point";

/// The ends of the names of what rounds the input of a layer while a model runs.
pub const INPUT_SCALES: [&str; 4] = [
    "input_scale",
    "input_zero_point",
    "activation_scale",
    "input_scale_ub",
];

/// The module of a role within its block.
const fn role_module(role: Role) -> &'static str {
    match role {
        Role::Query => "self_attn.q_proj",
        Role::Key => "self_attn.k_proj",
        Role::Value => "self_attn.v_proj",
        Role::Output => "self_attn.o_proj",
        Role::Gate => "mlp.gate_proj",
        Role::Up => "mlp.up_proj",
        Role::Down => "mlp.down_proj",
    }
}

/// The module of a weight: `model.layers.3.self_attn.q_proj`.
#[must_use]
pub fn module(site: Site) -> String {
    match site {
        Site::Embedding => "model.embed_tokens".into(),
        Site::Block { layer, role } => format!("{BLOCKS}{layer}.{}", role_module(role)),
        Site::Head => "lm_head".into(),
    }
}

/// The tensor of a weight that is whole: its module's name and `.weight`.
#[must_use]
pub fn weight(site: Site) -> String {
    format!("{}.weight", module(site))
}

/// The tensor of a bias: that of a low-rank pair belongs to its second layer.
#[must_use]
pub fn bias(site: Site, form: Form) -> String {
    match form {
        Form::LowRank(_) => format!("{}.up.bias", module(site)),
        _ => format!("{}.bias", module(site)),
    }
}

/// A norm of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormSite {
    /// Before the attention of a block.
    Attention(usize),
    /// On the query heads of a block.
    Query(usize),
    /// On the key heads of a block.
    Key(usize),
    /// Before the feed-forward layer of a block.
    FeedForward(usize),
    /// Before the head.
    Last,
}

/// The tensor of a norm's scale.
#[must_use]
pub fn norm(norm: NormSite) -> String {
    let of_block = |layer, part| format!("{BLOCKS}{layer}.{part}.weight");
    match norm {
        NormSite::Attention(layer) => of_block(layer, "input_layernorm"),
        NormSite::Query(layer) => of_block(layer, "self_attn.q_norm"),
        NormSite::Key(layer) => of_block(layer, "self_attn.k_norm"),
        NormSite::FeedForward(layer) => of_block(layer, "post_attention_layernorm"),
        NormSite::Last => "model.norm.weight".into(),
    }
}

/// The weight of a module, if it is one's.
#[must_use]
pub fn site(of_module: &str) -> Option<Site> {
    for end in [Site::Embedding, Site::Head] {
        if of_module == module(end) {
            return Some(end);
        }
    }
    let (layer, rest) = of_module.strip_prefix(BLOCKS)?.split_once('.')?;
    let mut roles = Role::ALL.into_iter();
    let role = roles.find(|role| role_module(*role) == rest)?;
    Some(Site::new(layer.parse().ok()?, role))
}

/// The weight of a tensor that ends in `.weight`, if it is a whole one's.
#[must_use]
pub fn site_of_weight(tensor: &str) -> Option<Site> {
    site(tensor.strip_suffix(".weight")?)
}

/// The block that a tensor belongs to.
#[must_use]
pub fn block(tensor: &str) -> Option<usize> {
    let layer = tensor.strip_prefix(BLOCKS)?.split('.').next()?;
    layer.parse().ok()
}

/// The modules of a pair, `down` before `up`.
fn pair(module: &str) -> [String; 2] {
    ["down", "up"].map(|part| format!("{module}.{part}"))
}

/// The modules of a pair that is added to a base, `down` before `up`.
fn correction(module: &str) -> [String; 2] {
    ["lora_A", "lora_B"].map(|part| format!("{ADAPTER}{module}.{part}"))
}

/// The module of every matrix of a form, in the order of [`Form::stores`].
#[must_use]
pub fn modules(site: Site, form: Form) -> Vec<String> {
    let module = module(site);
    match form {
        Form::Whole(_) => vec![module],
        Form::LowRank(_) => pair(&module).into(),
        Form::Sum { .. } => {
            let [down, up] = correction(&module);
            vec![module, down, up]
        }
        Form::Shared { residual, .. } => {
            let residual = residual.map(|_| pair(&module)).into_iter().flatten();
            [coefficients(&module)]
                .into_iter()
                .chain(residual)
                .collect()
        }
    }
}

/// The module of a mixture's coefficients.
fn coefficients(module: &str) -> String {
    format!("{module}.coefficients")
}

/// The module of the atoms of a group.
#[must_use]
pub fn dictionary(group: Group) -> String {
    format!("{DICTIONARIES}{}", dictionary_key(group))
}

/// The name of the atoms of a group among all atoms, which its first layer tells from others of the role: `q_proj_3`.
#[must_use]
pub fn dictionary_key(group: Group) -> String {
    let module = role_module(group.role);
    let layer = module.rsplit('.').next().unwrap_or(module);
    format!("{layer}_{}", group.first)
}

/// Whether a tensor is one of atoms.
#[must_use]
pub fn is_of_dictionary(tensor: &str) -> bool {
    tensor.starts_with(DICTIONARIES)
}

/// One tensor of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// The kind of its numbers.
    pub numbers: Numbers,
}

/// The kind of the numbers of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Floating-point numbers in the model's format.
    Floats,
    /// Floating-point numbers of an adapter, f16.
    Adapter,
    /// Scales, f16.
    Scales,
    /// Packed integers, i32.
    Words,
    /// A shape, i64.
    Sizes,
}

impl Numbers {
    /// Bytes of one of them where the model's floats have the given format.
    #[must_use]
    pub const fn bytes(self, format: Format) -> usize {
        match self {
            Self::Floats => format.bytes(),
            Self::Adapter | Self::Scales => 2,
            Self::Words => 4,
            Self::Sizes => 8,
        }
    }
}

/// Every tensor that a weight of this shape and form consists of, without atoms, which several weights own.
#[must_use]
pub fn parts(site: Site, form: Form, shape: Shape) -> Vec<Part> {
    let stores = form.stores(shape).into_iter();
    let stores = modules(site, form).into_iter().zip(stores);
    let parts =
        stores.flat_map(|(module, (precision, shape))| store_parts(&module, precision, shape));
    parts.collect()
}

/// Every tensor of the atoms of a group of weights of this shape.
#[must_use]
pub fn dictionary_parts(form: DictionaryForm, shape: Shape) -> Vec<Part> {
    let module = dictionary(form.group);
    store_parts(&module, form.precision, form.shape(shape))
}

/// Every tensor of one matrix.
fn store_parts(module: &str, precision: Precision, shape: Shape) -> Vec<Part> {
    match precision {
        Precision::Float => vec![float_part(module, shape)],
        Precision::Quantised(scheme) => quantised_parts(module, shape, scheme),
    }
}

fn float_part(module: &str, shape: Shape) -> Part {
    let numbers = if module.starts_with(ADAPTER) {
        Numbers::Adapter
    } else {
        Numbers::Floats
    };
    Part {
        name: format!("{module}.weight"),
        shape: vec![shape.rows, shape.cols],
        numbers,
    }
}

fn quantised_parts(module: &str, Shape { rows, cols }: Shape, scheme: Scheme) -> Vec<Part> {
    let part = |suffix: &str, shape: &[usize], numbers| Part {
        name: format!("{module}.{suffix}"),
        shape: shape.to_vec(),
        numbers,
    };
    let (codes, groups) = (words(scheme.bits, cols), scheme.groups(cols));
    let mut parts = vec![
        part("weight_packed", &[rows, codes], Numbers::Words),
        part("weight_scale", &[rows, groups], Numbers::Scales),
        part("weight_shape", &[2], Numbers::Sizes),
    ];
    if !scheme.symmetric {
        let zeros = words(scheme.bits, rows);
        parts.push(part("weight_zero_point", &[zeros, groups], Numbers::Words));
    }
    parts
}

/// The contents of a tensor.
#[derive(Clone, Debug)]
pub enum Contents<'a> {
    /// Numbers, in whatever format the tensor has.
    Floats(&'a Matrix),
    /// Bytes as they are stored.
    Bytes(Vec<u8>),
}

/// The contents of every tensor of a factor, by name, in the order of [`parts`].
#[must_use]
pub fn contents(site: Site, factor: &Factor) -> Vec<(String, Contents<'_>)> {
    let stores = factor.stores().into_iter();
    let stores = modules(site, factor.form()).into_iter().zip(stores);
    let contents = stores.flat_map(|(module, store)| store_contents(&module, store));
    contents.collect()
}

/// The contents of every tensor of the atoms of a group, in the order of [`dictionary_parts`].
#[must_use]
pub fn dictionary_contents(atoms: &Dictionary) -> Vec<(String, Contents<'_>)> {
    let module = dictionary(atoms.group);
    store_contents(&module, &atoms.stacked)
}

/// The contents of every tensor of one matrix.
fn store_contents<'a>(module: &str, store: &'a Store) -> Vec<(String, Contents<'a>)> {
    match store {
        Store::Float(matrix) => {
            vec![(format!("{module}.weight"), Contents::Floats(matrix))]
        }
        Store::Quantised(quantised) => quantised_contents(module, quantised),
    }
}

/// The contents of the tensors that [`quantised_parts`] lists.
fn quantised_contents(module: &str, quantised: &Quantised) -> Vec<(String, Contents<'static>)> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let halves = quantised.scales().iter();
    let halves = halves.flat_map(|scale| scale.to_le_bytes()).collect();
    let Shape { rows, cols } = quantised.shape();
    let shape = [rows as i64, cols as i64];
    let shape = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
    let mut tensors: Vec<(&str, Vec<u8>)> = vec![
        ("weight_packed", words(quantised.words())),
        ("weight_scale", halves),
        ("weight_shape", shape),
    ];
    if !quantised.scheme().symmetric {
        tensors.push(("weight_zero_point", words(&quantised.packed_zeros())));
    }
    let tensors = tensors.into_iter();
    tensors
        .map(|(suffix, bytes)| (format!("{module}.{suffix}"), Contents::Bytes(bytes)))
        .collect()
}

mod decoder;
mod find;
#[cfg(test)]
mod tests;

pub use decoder::of_decoder;
pub use find::{Fault, find};
