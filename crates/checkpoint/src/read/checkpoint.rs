//! A model on disk, opened by its headers and read one tensor at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Mutex, Weak},
};

use compress_core::{Dictionary, Form, Format, Group, Site};
use compress_think::Policy;
use tokenizers::Tokenizer;

use crate::{
    Config, Error, Kind, Result, Tensor, digest, names,
    read::{
        adapter::{self, Adapter},
        directory,
        gather::gather,
        gguf::GgufFile,
        mistaken, policy,
        tensor::FLOATS,
        tokenizer,
        weight_file::WeightFile,
        weights::parameters,
    },
};

/// A model on disk: a Hugging Face directory or a GGUF file.
///
/// Tensors go by their Hugging Face names in both cases. The files are open as long as the value
/// exists, but no tensor is kept in memory. Reading is possible from several threads at once.
pub struct Checkpoint {
    path: PathBuf,
    config: Config,
    pub(crate) files: Vec<WeightFile>,
    tensors: BTreeMap<String, Tensor>,
    forms: BTreeMap<Site, Form>,
    pub(crate) adapter: Option<Adapter>,
    pub(crate) gguf: Option<GgufFile>,
    policy: Option<Policy>,
    /// Atoms that somebody holds.
    pub(crate) atoms: Mutex<BTreeMap<Group, Weak<Dictionary>>>,
    warnings: Vec<String>,
}

impl Checkpoint {
    /// Opens a directory or a `.gguf` file (any of its parts, if it is split), and checks every tensor
    /// that the network needs against the config: its presence, shape and dtype. Reads `config.json` and
    /// headers only, and head and embedding where a file has both of a model that ties them.
    ///
    /// Fails where the path holds no model, the architecture is not supported, a tensor is missing
    /// or has another shape, or one is there that the network does not have; and where a cache policy beside them is
    /// damaged or of another model.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            Self::open_directory(path)
        } else if path.is_file() {
            Self::open_gguf(path)
        } else {
            let problem = "no such file or directory".to_owned();
            Err(Error::NoModel {
                path: path.into(),
                problem,
            })
        }
    }

    /// A Hugging Face directory. The adapter's tensors are added to the model's; their prefix keeps
    /// the names apart.
    fn open_directory(root: &Path) -> Result<Self> {
        mistaken::check_root(root)?;
        let path = root.join("config.json");
        let config = Config::parse(directory::read_json(&path)?, &path)?;
        let (mut files, tensors) = directory::open(root)?;
        let mut tensors = names::of_decoder(tensors);
        // The adapter's tensors become tensors of the model, so that a sum is read like any other
        // form.
        let mut correction = None;
        if let Some(folder) = adapter::folder(root, &config)? {
            let (settings, (file, pairs)) = adapter::open(&root.join(folder), files.len())?;
            files.extend(file);
            tensors.extend(pairs);
            correction = Some(settings);
        }
        Self {
            path: root.into(),
            policy: policy::beside(root, &config)?,
            config,
            files,
            tensors,
            forms: BTreeMap::new(),
            adapter: correction,
            gguf: None,
            atoms: Mutex::default(),
            warnings: Vec::new(),
        }
        .checked()
    }

    /// A GGUF file, whose metadata take the place of `config.json`, with all other parts if it is one
    /// of several.
    fn open_gguf(path: &Path) -> Result<Self> {
        mistaken::check_whole(path)?;
        let (gguf, files) = GgufFile::open(path)?;
        let config = Config::parse(gguf.config()?, path)?;
        let tensors = gguf.tensors();
        let warnings = gguf.warnings()?;
        Self {
            path: path.into(),
            config,
            files,
            tensors,
            forms: BTreeMap::new(),
            adapter: None,
            policy: None, // its folder may hold anything
            gguf: Some(gguf),
            atoms: Mutex::default(),
            warnings,
        }
        .checked()
    }

    /// Determines each site's form and compares all tensors with the config.
    fn checked(mut self) -> Result<Self> {
        // Before anything else is looked at: scales belong to their weights from then on.
        let told = gather(&mut self.tensors, &self.config, &self.path)?;
        self.warnings.extend(told);
        self.find_head()?;
        for site in self.config.sites().collect::<Vec<_>>() {
            let form = self.find_form(site)?;
            self.check_bias(site, form)?;
            self.forms.insert(site, form);
        }
        for (name, shape) in self.config.other_tensors() {
            self.expect(&name, &shape)?;
        }
        self.expect_nothing_else()?;
        Ok(self)
    }

    /// A bias must exist where the config has one, and must not exist elsewhere: a bias that is not
    /// added would change the result.
    fn check_bias(&self, site: Site, form: Form) -> Result<()> {
        if self.config.has_bias(site) {
            let outputs = self.config.weight_shape(site).rows;
            return self.expect(&names::bias(site, form), &[outputs]);
        }
        let bias = names::bias(site, Form::WHOLE);
        if site.role().is_some() && self.tensors.contains_key(&bias) {
            let problem = format!("tensor `{bias}` is there, but config.json has no such bias");
            return Err(Error::damaged(&self.path, problem));
        }
        Ok(())
    }

    /// Fails unless a tensor exists, has this shape, and has numbers that can be decoded to floats.
    pub(crate) fn expect(&self, name: &str, expected: &[usize]) -> Result<()> {
        let tensor = self.tensor(name)?;
        if tensor.shape != expected {
            let (found, expected) = (tensor.shape.clone(), expected.to_vec());
            return Err(Error::Shape {
                path: self.path.clone(),
                name: name.into(),
                found,
                expected,
            });
        }
        match &tensor.kind {
            Kind::Opaque(found) => Err(Error::NumberType {
                path: self.path.clone(),
                name: name.into(),
                found: found.clone(),
                wanted: FLOATS,
            }),
            _ => Ok(()),
        }
    }

    /// The path that was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The parsed config.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// For what is found out about it while it is opened.
    pub(crate) const fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// What had to be guessed or set right while it was opened, a sentence each; to be shown to the user.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Adds to them.
    pub(crate) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Whether this is a GGUF file. Its blocks are not written again: an output has plain floats in
    /// their place.
    #[must_use]
    pub const fn is_gguf(&self) -> bool {
        self.gguf.is_some()
    }

    /// Whether there are weights of one byte a number. They are not written again: an output has
    /// plain floats in their place.
    #[must_use]
    pub fn is_scaled(&self) -> bool {
        let mut tensors = self.tensors.values();
        tensors.any(|tensor| matches!(tensor.kind, Kind::Scaled(_)))
    }

    /// Every tensor by its Hugging Face name, those of an adapter included. Scales of weights of one
    /// byte are part of those.
    #[must_use]
    pub const fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// One tensor by its Hugging Face name; fails with [`Error::MissingTensor`].
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        let missing = || Error::MissingTensor {
            path: self.path.clone(),
            name: name.into(),
        };
        self.tensors.get(name).ok_or_else(missing)
    }

    /// The form in which each site is stored; a tied head is not among them.
    #[must_use]
    pub const fn forms(&self) -> &BTreeMap<Site, Form> {
        &self.forms
    }

    /// The name of the tensor with a site's bias, whether or not it has one. The bias of a low-rank
    /// pair belongs to its second layer.
    #[must_use]
    pub fn bias_name(&self, site: Site) -> String {
        names::bias(site, self.forms.get(&site).copied().unwrap_or(Form::WHOLE))
    }

    /// The tokenizer of the model, with the ids that transformers' `AutoTokenizer` gives: of
    /// `tokenizer.json`, `tokenizer.model` or `vocab.json`, or of the metadata of a GGUF file. Fails
    /// with [`Error::Tokenizer`] where there is none that is read.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        match &self.gguf {
            Some(gguf) => gguf.tokenizer(),
            None => tokenizer::open(&self.path, &self.config),
        }
    }

    /// What caches of its keys and values are to keep; all of them where there is none.
    #[must_use]
    pub const fn cache_policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    /// Takes another policy than the one that lies beside the weights.
    pub fn set_cache_policy(&mut self, policy: Option<Policy>) {
        self.policy = policy;
    }

    /// The tokenizer of a GGUF file as the files that transformers expects, name and contents;
    /// nothing for a directory, whose files are copied.
    pub(crate) fn tokenizer_files(&self) -> Result<Vec<(String, String)>> {
        self.gguf
            .as_ref()
            .map_or(Ok(Vec::new()), GgufFile::tokenizer_files)
    }

    /// The paths of the weight files, the adapter's included. In the cache of the hub they are
    /// symbolic links.
    pub fn weight_files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// Size of all weight files in bytes, headers included.
    #[must_use]
    pub fn file_bytes(&self) -> usize {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Number of parameters: packed codes count one each, scales and zero points not at all.
    #[must_use]
    pub fn parameters(&self) -> usize {
        let sizes = self.tensors.iter();
        let sizes = sizes.map(|(name, tensor)| (name.as_str(), tensor.size()));
        parameters(&self.config, &self.forms, sizes)
    }

    /// The weights of the blocks, of which a method changes some: the bytes that they take, with their scales,
    /// corrections and shared atoms, and how many numbers they have when multiplied out.
    pub fn block_weights(&self) -> Result<(usize, usize)> {
        let (mut parts, mut numbers) = (BTreeSet::new(), 0);
        for (&site, &form) in self.forms.iter().filter(|(site, _)| site.role().is_some()) {
            let shape = self.config.weight_shape(site);
            numbers += shape.size();
            parts.extend(
                names::parts(site, form, shape)
                    .into_iter()
                    .map(|part| part.name),
            );
            // A set, since many weights share one dictionary.
            if let Some(shared) = form.dictionary() {
                let shape = self.config.weight_shape(shared.group.start());
                let atoms = names::dictionary_parts(shared, shape).into_iter();
                parts.extend(atoms.map(|part| part.name));
            }
        }
        let bytes = parts.iter().map(|name| Ok(self.tensor(name)?.bytes()));
        Ok((bytes.sum::<Result<usize>>()?, numbers))
    }

    /// The float format that holds most of the model's bytes. For a GGUF file f16, in which its
    /// outputs are written, and bf16 where weights have one byte a number: their scales need not
    /// stay within the range of f16.
    #[must_use]
    pub fn format(&self) -> Format {
        if self.is_gguf() {
            return Format::F16;
        }
        if self.is_scaled() {
            return Format::Bf16;
        }
        // By bytes and not by count: norms are many, and often f32.
        let bytes_in = |format| {
            let of_format = self
                .tensors
                .values()
                .filter(|tensor| tensor.kind == Kind::Float(format));
            of_format.map(Tensor::bytes).sum::<usize>()
        };
        let formats = [Format::F32, Format::F16, Format::Bf16];
        formats
            .into_iter()
            .max_by_key(|&format| bytes_in(format))
            .unwrap_or(Format::F32)
    }

    /// SHA-256 over the names and contents of the weight files, and over the adapter's scale, which
    /// is in a settings file and changes the weights all the same. Reads every byte of the model.
    pub fn digest(&self) -> Result<String> {
        let weights = digest::of_files(self.files.iter().map(|file| file.path.as_path()))?;
        let scale = self.adapter.and_then(|adapter| adapter.scale);
        Ok(scale.map_or(weights.clone(), |scale| {
            digest::of_parts([weights.as_bytes(), &scale.to_le_bytes()].into_iter())
        }))
    }
}
