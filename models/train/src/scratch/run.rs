//! One run: its folder, what it is to be, and its way from the text to the network that is written.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use burn::tensor::Tensor;
use compress_tune::{Journal, Point};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::{
    attention::{Attention, Size},
    output,
    student::Student,
    training::{self, BATCH, Lesson},
};
use crate::corpus::{Corpus, stories};

/// The token that begins every story.
const BOS: &str = "<s>";

/// What one run is to do.
#[derive(Clone, Debug)]
pub struct Run {
    /// The attention of its network.
    pub attention: Attention,
    /// The sizes of its network.
    pub size: Size,
    /// Steps of the optimiser.
    pub steps: usize,
    /// Decides what it starts from, and the order of the text.
    pub seed: u64,
    /// Steps between two looks at the held-out text.
    pub interval: usize,
    /// A folder that has a `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// The folder of the run.
    pub folder: PathBuf,
}

/// The texts one after the other.
pub fn text<P: AsRef<Path>>(paths: &[P]) -> Result<String> {
    ensure!(!paths.is_empty(), "name at least one text to train on");
    let mut all = String::new();
    for path in paths {
        let path = path.as_ref();
        let read = fs::read_to_string(path);
        all += &read.with_context(|| format!("cannot read {}", path.display()))?;
        // The end of a file is the end of a story.
        all += "<|endoftext|>";
    }
    Ok(all)
}

impl Run {
    /// Trains its network on a text, from where an earlier run into the same folder was killed, and writes it.
    ///
    /// Fails where the folder belongs to another run.
    pub fn carry_out(&self, text: &str) -> Result<()> {
        if let Some((student, values)) = self.train(text, self.steps)? {
            self.write(&student, &values)?;
        }
        Ok(())
    }

    /// Trains its network up to a step, and gives the matrices; none where the run is done already.
    pub fn train(&self, text: &str, until: usize) -> Result<Option<(Student, Vec<Tensor<2>>)>> {
        let student = Student::new(self.attention, self.size)?;
        let tokenizer = self.tokenizer.join("tokenizer.json");
        let tokenizer = Tokenizer::from_file(&tokenizer)
            .map_err(|e| anyhow!("{e}"))
            .with_context(|| format!("cannot read {}", tokenizer.display()))?;
        let corpus = Corpus::by(&tokenizer, BOS, text)?;
        let context = self.size.context;
        let [train, held_out] = corpus.sizes();
        ensure!(
            train > context && held_out >= context,
            "the text has {train} tokens to train on and {held_out} held out; a window needs more than {context}"
        );
        self.claim(&self.about(&student, &corpus))?;
        if self.folder.join("model").exists() {
            eprintln!("{} is done", self.folder.display());
            self.tidy()?;
            return Ok(None);
        }
        fs::write(self.folder.join("held_out.txt"), held_out_text(text))?;
        let dense = self.folder.join("dense");
        let initial = student.named(&student.initial(self.seed));
        output::write_dense(&student, &initial, &self.tokenizer, &dense)?;
        let lesson = Lesson {
            run: self,
            student: &student,
            frame: &Student::frame(&dense)?,
            corpus: &corpus,
        };
        let mut journal = self.open_journal()?;
        let values = training::train(&lesson, &mut journal, until)?;
        Ok(Some((student, values)))
    }

    /// Writes the trained network.
    fn write(&self, student: &Student, values: &[Tensor<2>]) -> Result<()> {
        let values = student.named(values);
        let dense = self.folder.join("dense");
        output::write_dense(student, &values, &self.tokenizer, &dense)?;
        output::write(student, &values, &self.folder)?;
        self.tidy()
    }

    /// Removes what only a run that is not done needs; a kill may leave any of it beside the finished network.
    fn tidy(&self) -> Result<()> {
        for name in ["state", "dense", "model.compress-work"] {
            let path = self.folder.join(name);
            if path.exists() {
                let removed = fs::remove_dir_all(&path);
                removed.with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn open_journal(&self) -> Result<Journal> {
        Ok(Journal::open(&self.folder.join("state"))?)
    }

    /// Everything that decides its outcome, and what it costs.
    fn about(&self, student: &Student, corpus: &Corpus) -> Value {
        let [train, held_out] = corpus.sizes();
        let size = self.size;
        json!({
            "attention": self.attention.name(),
            "seed": self.seed,
            "steps": self.steps,
            "tokens": self.steps * BATCH * size.context,
            "layers": size.layers,
            "hidden": size.hidden,
            "attention_parameters": student.attention_parameters(),
            "parameters": student.parameters(),
            "text_tokens": train,
            "held_out_tokens": held_out,
            "text": corpus.digest(),
        })
    }

    /// Takes the folder, or goes on in it where it belongs to this very run.
    fn claim(&self, about: &Value) -> Result<()> {
        let path = self.folder.join("run.json");
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        if !path.exists() {
            return Ok(fs::write(path, format!("{about:#}\n"))?);
        }
        let found: Value = serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| format!("{} is damaged; remove it", path.display()))?;
        ensure!(
            found == *about,
            "{} says that another run is there; give another folder",
            path.display()
        );
        Ok(())
    }

    /// Writes the curve anew: it is small, and so never half of one state and half of another.
    pub fn write_curve(&self, curve: &[Point]) -> Result<()> {
        let mut text = "step,rate,loss,held_out\n".to_owned();
        for point in curve {
            let held_out = point.held_out.map(|loss| loss.to_string());
            let held_out = held_out.unwrap_or_default();
            writeln!(
                text,
                "{},{},{},{held_out}",
                point.step, point.rate, point.loss
            )?;
        }
        let beside = self.folder.join("curve.csv.new");
        fs::write(&beside, text)?;
        Ok(fs::rename(beside, self.folder.join("curve.csv"))?)
    }
}

/// The held-out stories as one text, with the token that begins each.
fn held_out_text(text: &str) -> String {
    let stories = stories(text);
    let first = Corpus::first_held_out(stories.len());
    let held_out = stories.into_iter().skip(first);
    held_out.flat_map(|story| [BOS, story]).collect()
}
