//! How much memory scoring will take, predicted from shapes alone.
//!
//! ```text
//! whole     17/16 Σ models' weights + per core a window's activations, a mixed matrix where atoms are shared, and some
//!           slices of logits
//! streamed  residual streams of all windows of a batch
//!           + the largest block and per core a window's activations, or later per core some slices of logits
//! ```
//!
//! Within a tenth of the maximum resident set for models of 100 MB and more (`tests/real_models.rs`,
//! `tests/campaign/memory.sh`); of smaller ones the program itself is most.

use std::collections::BTreeMap;

use compress_checkpoint::{Checkpoint, Config, Layout};
use compress_core::{DictionaryForm, Form, Group, Precision, Role, Shape, Site};
use compress_models::{Mixtures, SLICE, SLICES_AT_A_TIME};

/// The program itself, its threads, a tokenizer and a text.
const PROGRAM: usize = 90_000_000;

/// Bytes that each core holds beside activations and logits: panels of matrices that are multiplied.
pub const CORE: usize = 10_000_000;

/// The facts that decide how much memory a model takes.
#[derive(Clone, Copy)]
pub struct Outline<'a> {
    /// Its shape.
    pub config: &'a Config,
    /// How its weights are stored.
    pub forms: &'a BTreeMap<Site, Form>,
}

impl<'a> Outline<'a> {
    /// Of a model that is there.
    #[must_use]
    pub const fn of(model: &'a Checkpoint) -> Self {
        Self {
            config: model.config(),
            forms: model.forms(),
        }
    }

    /// Of the model that will be written by a layout, which was made for a model like `source`.
    #[must_use]
    pub const fn planned(source: &'a Checkpoint, layout: &'a Layout) -> Self {
        Self {
            config: source.config(),
            forms: layout.forms(),
        }
    }

    fn block(&self, layer: usize) -> usize {
        let weight = |role| {
            let form = self.forms.get(&Site::new(layer, role)).copied();
            in_memory(form.unwrap_or(Form::WHOLE), self.config.shape(role))
        };
        Role::ALL.into_iter().map(weight).sum::<usize>() + self.atoms(layer)
    }

    /// Atoms of which a weight of a block is mixed, while it is loaded.
    fn atoms(&self, layer: usize) -> usize {
        let of_role = |role| {
            let form = self.forms.get(&Site::new(layer, role))?;
            Some(4 * form.dictionary()?.shape(self.config.shape(role)).size())
        };
        let all = Role::ALL.into_iter().filter_map(of_role);
        all.max().unwrap_or_default()
    }

    fn largest_block(&self) -> usize {
        let blocks = (0..self.config.layers).map(|layer| self.block(layer));
        blocks.max().unwrap_or_default()
    }

    fn blocks(&self, mixtures: Mixtures) -> usize {
        match mixtures {
            Mixtures::MultipliedOut => (0..self.config.layers).map(|layer| self.block(layer)).sum(),
            Mixtures::Shared => self.own() + self.shared(),
        }
    }

    /// Bytes of what weights of blocks have for themselves.
    fn own(&self) -> usize {
        let blocks = self.forms.iter().filter(|(site, _)| site.role().is_some());
        blocks
            .map(|(&site, form)| stored(&form.stores(self.config.weight_shape(site))))
            .sum()
    }

    /// Bytes of all atoms, once.
    fn shared(&self) -> usize {
        let atoms = self.mixtures();
        let by_group: BTreeMap<Group, DictionaryForm> =
            atoms.map(|(_, atoms)| (atoms.group, atoms)).collect();
        let bytes = |atoms: &DictionaryForm| {
            let atom = self.config.weight_shape(atoms.group.start());
            stored(&[(atoms.precision, atoms.shape(atom))])
        };
        by_group.values().map(bytes).sum()
    }

    /// Bytes of the largest matrix that is mixed for a product.
    fn largest_mixed(&self) -> usize {
        let shapes = self
            .mixtures()
            .map(|(site, _)| self.config.weight_shape(site));
        shapes
            .map(|shape| 4 * shape.size())
            .max()
            .unwrap_or_default()
    }

    /// The weights that are mixtures, with the form of their atoms.
    fn mixtures(&self) -> impl Iterator<Item = (Site, DictionaryForm)> {
        let forms = self.forms.iter();
        forms.filter_map(|(&site, form)| Some((site, form.dictionary()?)))
    }

    /// Embedding and head: all of them, or those that are in memory even of a streamed network.
    fn ends(&self, streamed: bool) -> usize {
        let ends = [Site::Embedding, Site::Head].into_iter();
        let ends = ends.filter_map(|site| Some((site, *self.forms.get(&site)?)));
        let there = ends.filter(|(_, form)| !streamed || *form != Form::WHOLE);
        there
            .map(|(site, form)| in_memory(form, self.config.weight_shape(site)))
            .sum()
    }

    /// Bytes that a core holds while it takes a window through a block.
    fn activations(&self, time: usize) -> usize {
        let width = |role| self.config.shape(role);
        let (hidden, query) = (self.config.hidden, width(Role::Query).rows);
        let (shared, inner) = (width(Role::Key).rows, width(Role::Gate).rows);
        let attention = 3 * hidden + 4 * query + 5 * shared;
        let feed_forward = 4 * hidden + 3 * inner;
        4 * time * attention.max(feed_forward)
    }
}

/// Some models over the same windows.
pub struct ScoringFootprint<'a> {
    /// The models that are run.
    pub models: Vec<Outline<'a>>,
    /// The original of a [`Reference`](crate::Reference), of which only the head is used.
    pub reference: Option<Outline<'a>>,
    /// What becomes of mixtures in whole models. In streamed ones they are multiplied out.
    pub mixtures: Mixtures,
    /// Tokens of the longest window.
    pub time: usize,
    /// How many windows.
    pub windows: usize,
}

impl ScoringFootprint<'_> {
    /// Bytes at the most, where all models are in memory.
    #[must_use]
    pub fn whole(&self) -> usize {
        let weights = self.models.iter();
        let weights = weights.map(|model| model.blocks(self.mixtures) + model.ends(false));
        // A reference's head stays in its file.
        let slices = if self.reference.is_some() {
            SLICES_AT_A_TIME
        } else {
            1
        };
        let cores = rayon::current_num_threads().min(self.windows);
        PROGRAM
            + allocated(weights.sum())
            + ends_in_memory(self.reference.iter())
            + self.streams(cores)
            // A window is followed by the next at once: what one lets go of is not the system's again by then.
            + cores * (CORE + self.activations() + self.mixed() + self.logits(slices))
    }

    /// Bytes at the most, where blocks are loaded for batches of so many windows.
    #[must_use]
    pub fn streamed(&self, batch: usize) -> usize {
        let block = self.models.iter().map(Outline::largest_block).max();
        let block = block.unwrap_or_default();
        let cores = rayon::current_num_threads().min(batch);
        // When logits are made the last block is gone.
        let in_blocks = block + cores * (CORE + self.activations());
        let after = cores * (CORE + self.logits(SLICES_AT_A_TIME));
        PROGRAM + ends_in_memory(self.sources()) + self.streams(batch) + in_blocks.max(after)
    }

    /// The largest batch of windows with which streamed networks fit into so many bytes; none where not even
    /// one does.
    #[must_use]
    pub fn batch(&self, bytes: usize) -> Option<usize> {
        let holds = |batch| self.streamed(batch) <= bytes;
        if !holds(1) {
            return None;
        }
        let (mut fits, mut too_many) = (1, self.windows + 1);
        while fits + 1 < too_many {
            let middle = usize::midpoint(fits, too_many);
            if holds(middle) {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        Some(fits)
    }

    fn sources(&self) -> impl Iterator<Item = &Outline<'_>> {
        self.models.iter().chain(&self.reference)
    }

    /// Residual streams of so many windows.
    fn streams(&self, windows: usize) -> usize {
        let hidden = self.sources().map(|model| model.config.hidden);
        4 * windows * self.time * hidden.sum::<usize>()
    }

    /// The same of the model for which it is most.
    fn activations(&self) -> usize {
        let each = self.models.iter().map(|model| model.activations(self.time));
        each.max().unwrap_or_default()
    }

    /// The matrix that a core mixes for a product.
    fn mixed(&self) -> usize {
        if self.mixtures == Mixtures::MultipliedOut {
            return 0;
        }
        let each = self.models.iter().map(Outline::largest_mixed);
        each.max().unwrap_or_default()
    }

    /// So many slices of logits on a core: the original's, and those of one other model at a time.
    fn logits(&self, slices: usize) -> usize {
        let vocabulary = self.sources().map(|model| model.config.vocabulary).max();
        let all = 4 * self.time * vocabulary.unwrap_or_default();
        (4 * slices * SLICE).min(all) * self.sources().count().min(2)
    }
}

/// Bytes of many matrices as they are allocated: the allocator rounds sizes up to eighths of powers of two, and where
/// the system gives huge pages the rest of each is there as well.
const fn allocated(bytes: usize) -> usize {
    bytes + bytes / 16
}

/// Embeddings and heads that are in memory even of networks that are streamed.
fn ends_in_memory<'a>(models: impl Iterator<Item = &'a Outline<'a>>) -> usize {
    models.map(|model| model.ends(true)).sum()
}

/// Bytes of a weight in memory: floats in `f32`, what is packed as it is.
fn in_memory(form: Form, shape: Shape) -> usize {
    // Multiplied out.
    if form.dictionary().is_some() {
        return 4 * shape.size();
    }
    stored(&form.stores(shape))
}

/// Bytes of some matrices in memory.
fn stored(matrices: &[(Precision, Shape)]) -> usize {
    let bytes = |&(precision, shape): &(Precision, Shape)| match precision {
        Precision::Float => 4 * shape.size(),
        // The file has two numbers for the shape as well.
        Precision::Quantised(scheme) => scheme.bytes(shape) - 16,
    };
    matrices.iter().map(bytes).sum()
}
