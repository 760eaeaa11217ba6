//! The models that benches run, and what each becomes by the methods.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use compress_checkpoint::Checkpoint;
use compress_evaluate::Protocol;
use compress_models::{Decoder, Device};

/// A model to measure.
pub struct Model {
    pub name: String,
    path: PathBuf,
    /// The text to score it on, if there is one.
    text: Option<PathBuf>,
    /// The text to calibrate on; none: the second half of the other, of which the first is scored.
    calibration: Option<PathBuf>,
    /// What keeps calibration short on a model that is not a toy.
    hurry: &'static [&'static str],
}

/// The shipped model, and the one that the environment names.
pub fn models() -> Vec<Model> {
    let tiny = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny");
    let shipped = Model {
        name: "tiny".into(),
        text: Some(tiny.join("sample.txt")),
        calibration: Some(tiny.join("calibration.txt")),
        path: tiny,
        hurry: &[],
    };
    let path = env::var_os("COMPRESS_SMOLLM2").map(PathBuf::from);
    let named = path.map(|path| Model {
        // `SmolLM2-135M-Instruct` of `SmolLM2-135M-Instruct.Q4_1.gguf`.
        name: stem(&path).split(".Q").next().unwrap_or_default().into(),
        text: env::var_os("COMPRESS_WIKITEXT2").map(PathBuf::from),
        path,
        calibration: None,
        hurry: &["--samples", "4", "--calibrate-ctx", "512", "--one-shot"],
    });
    [Some(shipped), named].into_iter().flatten().collect()
}

fn stem(path: &Path) -> String {
    let name = path.file_stem().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// What a model is made to: a name, and the method with its options as they are typed; nothing for the model as it is.
pub struct Form {
    pub name: &'static str,
    method: String,
    /// Whether it measures on a text.
    calibrated: bool,
}

impl Form {
    /// By the weights alone.
    pub fn new(name: &'static str, method: impl Into<String>) -> Self {
        Self {
            name,
            method: method.into(),
            calibrated: false,
        }
    }

    /// By a calibration text.
    pub fn calibrated(name: &'static str, method: impl Into<String>) -> Self {
        Self {
            calibrated: true,
            ..Self::new(name, method)
        }
    }
}

impl Model {
    /// The model in a form, ready to be loaded. Made anew each time: it is this program that is measured.
    pub fn made(&self, form: &Form) -> Result<Checkpoint> {
        let mut words = form.method.split_whitespace();
        let Some(method) = words.next() else {
            return Ok(Checkpoint::open(&self.path)?);
        };
        let folder = env::temp_dir().join("compress-bench").join(&self.name);
        fs::create_dir_all(&folder)?;
        let output = folder.join(form.name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_compress"));
        command.args(["run", method]).arg(&self.path).args(words);
        if form.calibrated {
            let text = self.calibration_text(&folder)?;
            command.arg("--calibrate").arg(text).args(self.hurry);
        }
        command.args(["--no-evaluate", "--quiet", "--force", "-o"]);
        let done = command.arg(&output).output()?;
        let complaint = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "compress run {method}: {complaint}");
        Ok(Checkpoint::open(&output)?)
    }

    /// The file to calibrate on, which is made in a folder where it is a part of the text to score.
    fn calibration_text(&self, folder: &Path) -> Result<PathBuf> {
        if let Some(path) = &self.calibration {
            return Ok(path.clone());
        }
        let text = self.text()?;
        let lines: Vec<&str> = text.lines().collect();
        let path = folder.join("calibration.txt");
        fs::write(&path, lines[lines.len() / 2..].join("\n"))?;
        Ok(path)
    }

    /// The text to score. Fails where there is none.
    fn text(&self) -> Result<String> {
        let path = self.text.as_deref();
        let path = path.context("COMPRESS_WIKITEXT2 names no text to score it on")?;
        let text = fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.replace("\r\n", "\n"))
    }

    /// The first windows of the text for this model.
    pub fn windows(
        &self,
        checkpoint: &Checkpoint,
        context: usize,
        count: usize,
    ) -> Result<Vec<Vec<u32>>> {
        let protocol = Protocol {
            context,
            windows: Some(count),
            bos: false,
            documents: None,
        };
        let tokenizer = checkpoint.tokenizer()?;
        Ok(protocol.cut(&self.text()?, &tokenizer, checkpoint.config().bos)?)
    }
}

/// Loads a model whole.
pub fn load(checkpoint: &Checkpoint, device: &Device) -> Result<Decoder> {
    Ok(Decoder::load(checkpoint, device)?)
}
