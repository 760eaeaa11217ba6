//! Where every tensor of an output will lie, known before any of it is computed.
//!
//! Forms foretell shapes, so headers and offsets can be written first; each finished tensor then
//! goes straight to its place, in any order and from any thread, and nothing waits in memory.

use std::collections::BTreeMap;

use compress_core::{Form, Format, PairForm, Precision, Scheme, Site};
use serde_json::{Map, Value, json};

use crate::{
    Checkpoint, Error, Kind, Result, Schemes, Tensor,
    huggingface::quantisation,
    names::{self, Numbers, Part},
    read::{adapter, weights::parameters},
};

/// Larger models are split into files of at most this size, as the hub asks for.
pub const MAX_SHARD_BYTES: usize = 5_000_000_000;

/// Where the bytes of a tensor come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The source's tensor of this name, byte by byte.
    Copied(String),
    /// The source's tensor of this name, in another format.
    Converted(String),
    /// The factor at this site.
    Computed(Site),
    /// The source's tensor of the weight at this site, rounded.
    Rounded(Site, Scheme),
}

/// The differences between an output and its source.
#[derive(Clone, Debug, Default)]
pub struct OutputSpec {
    /// The new forms of weights. Those of blocks are computed; embedding and head can only be rounded, symmetrically,
    /// which happens on their way to the file.
    pub forms: BTreeMap<Site, Form>,
    /// The format of all numbers; where none is given, every tensor keeps its own (f16 where the source
    /// is a GGUF file).
    pub format: Option<Format>,
}

/// A tensor and its place.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How its numbers are kept.
    pub kind: Kind,
    /// Where its bytes come from.
    pub content: Content,
    /// Which file.
    pub file: usize,
    /// First byte in that file, its header included.
    pub offset: usize,
    /// How many bytes.
    pub bytes: usize,
}

/// One safetensors file to be.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Its name in the output directory.
    pub name: String,
    /// The length field and the JSON header.
    pub header: Vec<u8>,
    /// Its size in bytes.
    pub bytes: usize,
}

/// The weight files of an output: their names, headers and sizes, and every tensor's place.
#[derive(Clone, Debug)]
pub struct Layout {
    pub(crate) tensors: Vec<Placed>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) forms: BTreeMap<Site, Form>,
    pub(crate) format: Format,
    parameters: usize,
}

impl Layout {
    /// Lays out a model as it is after some edits.
    pub fn new(source: &Checkpoint, spec: &OutputSpec) -> Result<Self> {
        Self::with_shards_of(source, spec, MAX_SHARD_BYTES)
    }

    /// The same with another limit to the size of a file.
    pub fn with_shards_of(source: &Checkpoint, spec: &OutputSpec, limit: usize) -> Result<Self> {
        let spec = &OutputSpec {
            forms: with_one_rank(&spec.forms),
            format: spec.format.or(source.is_gguf().then_some(Format::F16)),
        };
        for (&site, form) in &spec.forms {
            form.check(source.config().weight_shape(site))?;
        }
        let mut tensors = Vec::new();
        for (name, tensor) in source.tensors() {
            if source.config().tied && *name == names::weight(Site::Head) {
                continue; // it is the embedding
            }
            tensors.extend(outputs(source, spec, name, tensor));
        }
        let mut forms = source.forms().clone();
        forms.extend(spec.forms.iter().map(|(site, form)| (*site, *form)));
        quantisation::check(&forms)?;
        check_ends(source, &forms)?;
        let sizes = tensors.iter().map(|tensor| {
            let size: usize = tensor.shape.iter().product();
            (tensor.name.as_str(), size)
        });
        let parameters = parameters(source.config(), &forms, sizes);
        let added = |tensor: &Placed| tensor.name.starts_with(names::ADAPTER);
        let mut pairs: Vec<Placed> = tensors.extract_if(.., |tensor| added(tensor)).collect();
        let mut shards = place(&mut tensors, limit);
        if !pairs.is_empty() {
            pairs
                .iter_mut()
                .for_each(|tensor| tensor.file = shards.len());
            shards.push(shard(adapter::OWN_WEIGHTS.into(), pairs.iter_mut()));
            tensors.append(&mut pairs);
        }
        Ok(Self {
            tensors,
            shards,
            forms,
            format: spec.format.unwrap_or(source.format()),
            parameters,
        })
    }

    /// The form in which each weight will be stored.
    #[must_use]
    pub const fn forms(&self) -> &BTreeMap<Site, Form> {
        &self.forms
    }

    /// Bytes of all weight files together, headers included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// How many numbers the weight files will hold.
    #[must_use]
    pub const fn parameters(&self) -> usize {
        self.parameters
    }

    /// The format of the computed tensors.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The sites whose weights will be low-rank pairs, and their ranks.
    pub fn ranks(&self) -> impl Iterator<Item = (Site, usize)> {
        let forms = self.forms.iter();
        forms.filter_map(|(site, form)| Some((*site, form.rank()?)))
    }

    /// The sites whose rounded weights will be corrected, and the rank of that.
    pub fn corrections(&self) -> impl Iterator<Item = (Site, usize)> {
        let forms = self.forms.iter();
        let ranks = forms.map(|(site, form)| (*site, form.correction()));
        ranks.filter(|(_, rank)| *rank > 0)
    }

    /// How weights will be rounded, where any are.
    #[must_use]
    pub fn schemes(&self) -> Schemes {
        Schemes::of(&self.forms)
    }

    /// `model.safetensors.index.json`, where there is more than one file.
    pub(crate) fn index(&self) -> Option<Value> {
        let own = |shard: &&Shard| shard.name != adapter::OWN_WEIGHTS;
        let count = self.shards.iter().filter(own).count();
        if count < 2 {
            return None;
        }
        let own = || self.tensors.iter().filter(|tensor| tensor.file < count);
        let names = own().filter_map(|tensor| {
            let shard = self.shards.get(tensor.file)?;
            Some((tensor.name.clone(), Value::from(shard.name.clone())))
        });
        let total: usize = own().map(|tensor| tensor.bytes).sum();
        Some(
            json!({ "metadata": { "total_size": total }, "weight_map": names.collect::<Map<_, _>>() }),
        )
    }
}

/// Refuses two ways to round embedding and head: `quantization_config` has one group for both.
fn check_ends(source: &Checkpoint, forms: &BTreeMap<Site, Form>) -> Result<()> {
    let ends = [Site::Embedding, Site::Head].into_iter();
    let mut rounded = ends
        .filter_map(|site| forms.get(&site))
        .filter(|form| **form != Form::WHOLE);
    let first = rounded.next();
    if rounded.all(|form| Some(form) == first) {
        return Ok(());
    }
    let problem = "embedding and head would be rounded in two ways, of which `quantization_config` tells one; leave --embedding-bits out";
    Err(Error::damaged(source.path(), problem))
}

/// Corrections get the largest rank of all: an adapter has one.
fn with_one_rank(forms: &BTreeMap<Site, Form>) -> BTreeMap<Site, Form> {
    let most = forms.values().map(|form| form.correction()).max();
    let rank = most.unwrap_or(0);
    let padded = |form: Form| match form {
        Form::Sum { base, correction } => Form::Sum {
            base,
            correction: PairForm { rank, ..correction },
        },
        other => other,
    };
    let forms = forms.iter();
    forms.map(|(site, form)| (*site, padded(*form))).collect()
}

/// The tensors of the output that one tensor of the source becomes.
fn outputs(source: &Checkpoint, spec: &OutputSpec, name: &str, tensor: &Tensor) -> Vec<Placed> {
    // Scales stay as their codes need them.
    let numbers = !matches!(tensor.kind, Kind::Opaque(_)) && !name.ends_with(".weight_scale");
    let kind = match spec.format {
        Some(format) if numbers => Kind::Float(format),
        _ => tensor.kind.clone(),
    };
    let placed = |name: String, shape: Vec<usize>, content| {
        let bytes = match kind {
            Kind::Float(format) => shape.iter().product::<usize>() * format.bytes(),
            _ => tensor.bytes(),
        };
        Placed {
            name,
            shape,
            kind: kind.clone(),
            content,
            file: 0,
            offset: 0,
            bytes,
        }
    };
    // An output's adapter has no scale of its own.
    let content = if kind == tensor.kind && source.scale_of(name).is_none() {
        Content::Copied
    } else {
        Content::Converted
    };
    let edited = |suffix| {
        let site = names::site(name.strip_suffix(suffix)?)?;
        Some((site, *spec.forms.get(&site)?))
    };
    if let Some((site, form)) = edited(".weight") {
        let shape = source.config().weight_shape(site);
        let parts = names::parts(site, form, shape).into_iter().map(|part| {
            let content = match (site, form) {
                (Site::Embedding | Site::Head, Form::Whole(Precision::Quantised(scheme))) => {
                    Content::Rounded(site, scheme)
                }
                _ => Content::Computed(site),
            };
            placed_part(part, &kind, content)
        });
        parts.collect()
    } else {
        let own_name = edited(".bias").map(|(site, form)| names::bias(site, form));
        vec![placed(
            own_name.unwrap_or_else(|| name.into()),
            tensor.shape.clone(),
            content(name.into()),
        )]
    }
}

/// A tensor of a module's new form; `kind` is that of the model's floats.
fn placed_part(part: Part, kind: &Kind, content: Content) -> Placed {
    let kind = match part.numbers {
        Numbers::Floats => kind.clone(),
        Numbers::Adapter | Numbers::Scales => Kind::Float(Format::F16),
        Numbers::Words => Kind::Opaque("I32".into()),
        Numbers::Sizes => Kind::Opaque("I64".into()),
    };
    let size: usize = part.shape.iter().product();
    let each = match kind {
        Kind::Float(format) => format.bytes(),
        _ => part.numbers.bytes(Format::F16),
    };
    Placed {
        name: part.name,
        content,
        bytes: size * each,
        shape: part.shape,
        kind,
        file: 0,
        offset: 0,
    }
}

/// Distributes tensors over files, sets their places, and makes the headers.
fn place(tensors: &mut [Placed], limit: usize) -> Vec<Shard> {
    let (mut file, mut filled) = (0, 0);
    for tensor in tensors.iter_mut() {
        if filled > 0 && filled + tensor.bytes > limit {
            (file, filled) = (file + 1, 0);
        }
        tensor.file = file;
        filled += tensor.bytes;
    }
    // Wide numbers first keeps every tensor aligned to the size of its numbers.
    tensors.sort_by_key(|tensor| (tensor.file, std::cmp::Reverse(alignment(tensor))));
    let count = file + 1;
    let name = |file| match count {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", file + 1),
    };
    (0..count)
        .map(|file| {
            shard(
                name(file),
                tensors.iter_mut().filter(|tensor| tensor.file == file),
            )
        })
        .collect()
}

fn shard<'a>(name: String, tensors: impl Iterator<Item = &'a mut Placed>) -> Shard {
    let mut entries = Map::from_iter([("__metadata__".to_owned(), json!({ "format": "pt" }))]);
    let mut end = 0;
    let mut placed: Vec<_> = tensors.collect();
    for tensor in &mut placed {
        tensor.offset = end;
        end += tensor.bytes;
        let entry = json!({
            "dtype": dtype_name(&tensor.kind),
            "shape": tensor.shape,
            "data_offsets": [tensor.offset, end],
        });
        entries.insert(tensor.name.clone(), entry);
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.append(&mut text);
    for tensor in placed {
        tensor.offset += header.len();
    }
    Shard {
        name,
        bytes: header.len() + end,
        header,
    }
}

/// Bytes of one number; 0 where several share a byte, so that those come last.
fn alignment(tensor: &Placed) -> usize {
    tensor.bytes / tensor.shape.iter().product::<usize>().max(1)
}

fn dtype_name(kind: &Kind) -> String {
    kind.to_string().to_uppercase()
}
