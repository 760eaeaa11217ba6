//! The files of a GGUF model, which may be split into parts by size.
//!
//! ```text
//! NAME-00001-of-00003.gguf    the metadata, and tensors
//! NAME-00002-of-00003.gguf    tensors
//! ```
//!
//! Any of them stands for the model: the header says which part it is, and the others are found by
//! their names.

use std::path::{Path, PathBuf};

use compress_gguf::{Gguf, Part};

use crate::{
    Error, Result,
    read::{gguf::wrap, weight_file::WeightFile},
};

/// Opens a model by the path of its file or of one of its parts: the header of the whole, and the
/// files in the order of the parts.
pub fn open(path: &Path) -> Result<(Gguf, Vec<WeightFile>)> {
    let (header, file) = header(path.to_owned())?;
    let Some(part) = header.part().map_err(wrap(path))? else {
        return Ok((header, vec![file]));
    };
    let names = Names::of(path, part)?;
    let mut given = Some((header, file));
    // Grown part by part: the count is as hostile as the rest of the file.
    let (mut headers, mut files) = (Vec::new(), Vec::new());
    for number in 0..part.count {
        let opened = match given.take_if(|_| number == part.number) {
            Some(opened) => opened,
            None => self::header(names.beside(path, number)?)?,
        };
        headers.push(opened.0);
        files.push(opened.1);
    }
    let whole = Gguf::join(headers).map_err(wrap(path))?;
    Ok((whole, files))
}

/// Opens a file and parses its header.
fn header(path: PathBuf) -> Result<(Gguf, WeightFile)> {
    let file = WeightFile::open(path)?;
    let header = file.look(Gguf::parse)?.map_err(wrap(&file.path))?;
    Ok((header, file))
}

/// How the parts of a model are called.
struct Names<'p> {
    /// What all names begin with.
    stem: &'p str,
    count: usize,
}

impl<'p> Names<'p> {
    /// By the name of one part; fails where that is not the name of the part that the file is.
    fn of(path: &'p Path, part: Part) -> Result<Self> {
        let Part { number, count } = part;
        let suffix = suffix(number, count);
        let name = path.file_name().and_then(|name| name.to_str());
        let stem = name.and_then(|name| name.strip_suffix(&suffix));
        let nameless = || {
            let problem = format!(
                "part {} of a model in {count} files, but the name does not end in {suffix}, by which the others are \
                 found; give all of them their original names, in one folder",
                number + 1
            );
            Error::damaged(path, problem)
        };
        Ok(Self {
            stem: stem.ok_or_else(nameless)?,
            count,
        })
    }

    /// The path of a part beside another; fails where there is no such file.
    fn beside(&self, path: &Path, number: usize) -> Result<PathBuf> {
        let name = format!("{}{}", self.stem, suffix(number, self.count));
        let part = path.with_file_name(&name);
        if part.is_file() {
            return Ok(part);
        }
        let problem = format!(
            "one of {} files of a model, of which {name} is not in the same folder; fetch that, too",
            self.count
        );
        Err(Error::damaged(path, problem))
    }
}

/// The end of the name of a part; there they count from 1.
fn suffix(number: usize, count: usize) -> String {
    format!("-{:05}-of-{count:05}.gguf", number + 1)
}
