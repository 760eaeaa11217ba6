//! Names, dtypes, shapes and file offsets of all tensors of an output, known before any is
//! computed.
//!
//! The form of a weight determines the shapes of its tensors, so headers can be written first. Each
//! finished tensor then goes straight to its offset, in any order and from any thread, and none
//! waits in memory.
//!
//! ```text
//! 8 bytes    length of the header
//! header     JSON, padded with spaces to a multiple of 8
//! data       per file: tensors with wide numbers first, without gaps
//! ```

use std::collections::BTreeMap;

use compress_core::{DictionaryForm, Form, Format, Group, PairForm, Precision, Scheme, Site};
use serde_json::{Map, Value, json};

use crate::{
    Checkpoint, Head, Kind, Result, Schemes, Tensor,
    names::{self, Numbers, Part},
    read::{
        adapter,
        weights::{dictionaries, parameters},
    },
    write::{
        modelling,
        place::{place, shard},
        schemes,
    },
};

/// Size in bytes above which a model is split into shards, the default of the hub's own tools.
pub const MAX_SHARD_BYTES: usize = 5_000_000_000;

/// The source of a tensor's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The source's tensor of this name, byte by byte.
    Copied(String),
    /// The source's tensor of this name, decoded, scaled and encoded in another dtype.
    Converted(String),
    /// A tensor of the factor that a method computes for this site.
    Computed(Site),
    /// A tensor of the atoms that a method makes for this group.
    Shared(Group),
    /// The source's weight at this site, rounded to nearest while it is copied.
    Rounded(Site, Scheme),
}

/// The differences between an output and its source.
#[derive(Clone, Debug, Default)]
pub struct OutputSpec {
    /// New forms by site. Those of the blocks are computed by a method; embedding and head can only
    /// be rounded, symmetrically, while they are copied.
    pub forms: BTreeMap<Site, Form>,
    /// The dtype of all floats; with none, every tensor keeps its own (f16 where the source is a
    /// GGUF file).
    pub format: Option<Format>,
}

/// A tensor of the output and its place.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Its name.
    pub name: String,
    /// Sizes, outermost dimension first.
    pub shape: Vec<usize>,
    /// Its number format.
    pub kind: Kind,
    /// The source of its bytes.
    pub content: Content,
    /// Index into the shards.
    pub file: usize,
    /// Offset of its first byte from the start of the file, header included.
    pub offset: usize,
    /// Its size in bytes.
    pub bytes: usize,
}

/// A safetensors file that will be written.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Its path relative to the output directory.
    pub name: String,
    /// The length field and the JSON header, padded to a multiple of 8 bytes.
    pub header: Vec<u8>,
    /// The size of the file in bytes, header included.
    pub bytes: usize,
}

/// The weight files of an output: their names, headers and sizes, and the place of every tensor.
#[derive(Clone, Debug)]
pub struct Layout {
    pub(crate) tensors: Vec<Placed>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) forms: BTreeMap<Site, Form>,
    pub(crate) format: Format,
    parameters: usize,
}

impl Layout {
    /// Lays out the output of `source` under `spec`, in shards of at most [`MAX_SHARD_BYTES`].
    /// Fails where a form does not fit its shape, or where two ranks of corrections would need more
    /// than one adapter.
    pub fn new(source: &Checkpoint, spec: &OutputSpec) -> Result<Self> {
        Self::with_shards_of(source, spec, MAX_SHARD_BYTES)
    }

    /// As [`new`](Self::new), with another limit in bytes. A tensor larger than the limit gets a
    /// file of its own.
    pub fn with_shards_of(source: &Checkpoint, spec: &OutputSpec, limit: usize) -> Result<Self> {
        let spec = &OutputSpec {
            forms: with_one_rank(&spec.forms),
            // Blocks of a GGUF file cannot be written to safetensors: they become floats.
            format: spec.format.or(source.is_gguf().then_some(Format::F16)),
        };
        for (&site, form) in &spec.forms {
            form.check(source.config().weight_shape(site))?;
        }
        let mut tensors = Vec::new();
        for (name, tensor) in source.tensors() {
            if source.config().head == Head::Embedding && *name == names::weight(Site::Head) {
                continue; // it is the embedding
            }
            tensors.extend(outputs(source, spec, name, tensor));
        }
        // Atoms belong to no tensor of the source.
        let kind = Kind::Float(spec.format.unwrap_or(source.format()));
        for (group, form) in dictionaries(&spec.forms) {
            let shape = source.config().weight_shape(group.start());
            let parts = names::dictionary_parts(form, shape).into_iter();
            let content = Content::Shared(group);
            tensors.extend(parts.map(|part| placed_part(part, &kind, content.clone())));
        }
        let mut forms = source.forms().clone();
        forms.extend(spec.forms.iter().map(|(site, form)| (*site, *form)));
        // Checked over all forms, as those of the source may remain beside the new ones.
        schemes::check_ranks(&forms)?;
        check_atoms(source, &spec.forms, &forms)?;
        modelling::check_class(source.config(), &forms)?;
        let sizes = tensors.iter().map(|tensor| {
            let size: usize = tensor.shape.iter().product();
            (tensor.name.as_str(), size)
        });
        let parameters = parameters(source.config(), &forms, sizes);
        // The adapter has a weight file of its own, in its own folder, after the model's shards.
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

    /// The form in which each site will be stored, unchanged ones included.
    #[must_use]
    pub const fn forms(&self) -> &BTreeMap<Site, Form> {
        &self.forms
    }

    /// Size of all weight files in bytes, headers and adapter included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// Number of parameters of the output; packed codes count one each.
    #[must_use]
    pub const fn parameters(&self) -> usize {
        self.parameters
    }

    /// The dtype of the computed float tensors.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The sites that will be low-rank pairs, with their ranks.
    pub fn ranks(&self) -> impl Iterator<Item = (Site, usize)> {
        let forms = self.forms.iter();
        forms.filter_map(|(site, form)| Some((*site, form.rank()?)))
    }

    /// The sites that will be mixtures of atoms, with the atoms and the rank of the residual.
    pub fn mixtures(&self) -> impl Iterator<Item = (Site, DictionaryForm, usize)> {
        let forms = self.forms.iter();
        forms.filter_map(|(site, form)| match *form {
            Form::Shared {
                dictionary,
                residual,
            } => Some((*site, dictionary, residual.map_or(0, |pair| pair.rank))),
            _ => None,
        })
    }

    /// The atoms that there will be.
    #[must_use]
    pub fn dictionaries(&self) -> BTreeMap<Group, DictionaryForm> {
        dictionaries(&self.forms)
    }

    /// Whether layers are not those of the family's own classes, so that a modelling file has to come with the output.
    #[must_use]
    pub fn is_factored(&self) -> bool {
        self.forms.values().any(|form| form.is_factored())
    }

    /// The sites that will have a correction, with its rank, which is the same for all.
    pub fn corrections(&self) -> impl Iterator<Item = (Site, usize)> {
        let forms = self.forms.iter();
        let ranks = forms.map(|(site, form)| (*site, form.correction()));
        ranks.filter(|(_, rank)| *rank > 0)
    }

    /// The quantization schemes of the output.
    #[must_use]
    pub fn schemes(&self) -> Schemes {
        Schemes::of(&self.forms)
    }

    /// `model.safetensors.index.json`, where the model has more than one file. The adapter's file
    /// is not part of it.
    pub(crate) fn index(&self) -> Option<Value> {
        let own = |shard: &&Shard| shard.name != adapter::OWN_WEIGHTS;
        let count = self.shards.iter().filter(own).count();
        // transformers expects no index beside `model.safetensors`.
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

/// Refuses atoms among which those of the source, or new ones, would be taken for others': a file has for a mixture
/// those that begin nearest at or before its layer.
fn check_atoms(
    source: &Checkpoint,
    new: &BTreeMap<Site, Form>,
    all: &BTreeMap<Site, Form>,
) -> Result<()> {
    let groups = dictionaries(all);
    let fail = |group, problem| Err(compress_core::Error::Dictionary { group, problem }.into());
    let problem = "the model has atoms of this role already, among whose layers these would lie; leave the role out by --roles";
    for (site, form) in all {
        let nearest = groups.keys().rev().find(|group| group.admits(*site));
        match (form.dictionary(), nearest) {
            (Some(own), Some(nearest)) if own.group != *nearest => return fail(own.group, problem),
            _ => {}
        }
    }
    let old = dictionaries(source.forms());
    let twice = dictionaries(new)
        .into_keys()
        .find(|group| old.contains_key(group));
    twice.map_or(Ok(()), |group| fail(group, problem))
}

/// Gives all corrections the largest rank among them, since `adapter_config.json` has one `r`; the
/// writer pads the factors with zeros.
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

/// The tensors of the output that one tensor of the source becomes: itself, or all parts of its
/// weight's new form.
fn outputs(source: &Checkpoint, spec: &OutputSpec, name: &str, tensor: &Tensor) -> Vec<Placed> {
    // A conversion of the floats leaves scales alone: the codes were made with them as they are.
    let numbers = !matches!(tensor.kind, Kind::Opaque(_)) && !name.ends_with(".weight_scale");
    let kind = match (spec.format, &tensor.kind) {
        (Some(format), _) if numbers => Kind::Float(format),
        // Its scales have no place in an output.
        (_, Kind::Scaled(_)) => Kind::Float(source.format()),
        (_, kind) => kind.clone(),
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
    // An adapter with a scale is multiplied by it while it is written, since the new settings say
    // 1.
    let content = if kind == tensor.kind && source.scale_of(name).is_none() {
        Content::Copied
    } else {
        Content::Converted
    };
    let edited = |suffix| {
        let site = names::site(name.strip_suffix(suffix)?)?;
        Some((site, *spec.forms.get(&site)?))
    };
    // A weight with a new form is replaced by all of its parts; its bias may only have to move to
    // `up`.
    if let Some((site, form)) = edited(".weight") {
        let shape = source.config().weight_shape(site);
        let parts = names::parts(site, form, shape).into_iter().map(|part| {
            let content = match (site, form) {
                // Rounded to nearest chunk by chunk: neither needs evidence, and the embedding is
                // often the largest matrix.
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

/// A tensor of a weight's new form; `kind` is the number format of the model's floats.
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
