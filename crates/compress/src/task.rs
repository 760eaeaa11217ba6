//! A run once all of it is known: compressing, and all that is written.
//!
//! `verbs/run.rs` makes a [`Task`] when plan, layout and evidence are there. This file chooses between the two orders
//! of compressing, which `carry_out` has.

use anyhow::Result;
use compress_calibrate::{Behind, Progress as _, RefitTarget, Sequential};
use compress_checkpoint::{Checkpoint, Writer};
use compress_core::{Method, Plan, Survey, TokenWeights};
use serde_json::{Value, json};

use crate::{
    carry_out::{Compressed, Compression},
    evidence::{Bar, Measurements},
    footprint::Parallel,
    job::Running,
    memory,
    model::Opened,
    pipeline,
    report::run::FinishedRun,
};

/// A run, once all of it is known: nothing is decided from here on.
pub struct Task<'a, M: Method> {
    /// Compresses; with its options.
    pub method: &'a M,
    /// The run as it was asked for.
    pub job: &'a Running,
    /// The source.
    pub model: &'a Opened,
    /// The weights of the source, with the evidence that was measured before.
    pub survey: Survey<'a>,
    /// The steps to carry out.
    pub plan: &'a Plan<M::Step>,
    /// What else decided them; none where options and budget say all.
    pub decided_by: Option<Value>,
    /// The calibration text, and what was measured on it.
    pub evidence: &'a Measurements,
    /// The parallelism that memory allows.
    pub parallel: Parallel,
    /// How long measuring took in this run, for the report; passes behind compressed blocks are not in it.
    pub calibrate_seconds: f64,
}

impl<'a, M: Method> Task<'a, M> {
    /// The run as it is told of, before the models are run.
    pub fn done(&self, (compressed, bytes): (Compressed, usize)) -> FinishedRun<'a, M::Step> {
        FinishedRun {
            job: self.job,
            model: self.model,
            plan: self.plan,
            decided_by: self.decided_by.clone(),
            calibration: self.evidence.about(),
            calibrate_seconds: self.calibrate_seconds,
            refit: self.refit(),
            compressed,
            peak: memory::peak(),
            measured: None,
            bytes,
        }
    }

    /// Writes all that the output consists of, and opens it as others will; gives how many bytes its weights have.
    ///
    /// Fails where a method, a measurement or the disk does. The work directory is then as it was left.
    pub fn compress(&self, writer: &Writer<'_>) -> Result<(Compressed, usize)> {
        // Before the weights: a pass behind compressed blocks reads the output as far as it is written.
        writer.write_others()?;
        let compressed = self.carry_out(writer)?;
        // Not the layout's word for it: a model that does not open is not published.
        let written = Checkpoint::open(&writer.model())?;
        Ok((compressed, written.file_bytes()))
    }

    /// Compresses all at once, or block after block where activations are measured when weights have their turn.
    fn carry_out(&self, writer: &Writer<'_>) -> Result<Compressed> {
        let planning = &self.job.planning;
        let work = Compression {
            method: self.method,
            plan: self.plan,
            survey: &self.survey,
            writer,
            form: &planning.form,
            parallel: &self.parallel,
            quiet: planning.printing.quiet,
        };
        // All evidence is there already, and no weight depends on another.
        let Some(windows) = self.evidence.windows_in_turn() else {
            return work.at_once();
        };
        let refit = self.refit();
        // Without refit the original's pass alone is run: activations are those of the original, in turn only to save
        // room.
        let written = refit
            .map(|_| Checkpoint::open(&writer.model()))
            .transpose()?;
        let behind = refit.zip(written.as_ref());
        let behind = behind.map(|(refit, written)| Behind { written, refit });
        // One pass serves all steps: the sum is made if any step asks for it.
        let attention_weighted = self.plan.tokens() == TokenWeights::Attention;
        let bar = Bar::new(work.quiet);
        // In the work directory, where a killed run finds the residual streams of the block that it goes on with.
        let place = writer.work().join("trace");
        let (device, _) = self.job.planning.machine.device.open()?;
        let passes = Sequential::begin(
            &self.model.checkpoint,
            windows,
            (behind, attention_weighted),
            (&place, writer.first_block()),
            &device,
            &bar,
        )?;
        let done = work.in_sequence(&passes, refit)?;
        bar.finish();
        Ok(done)
    }

    /// Everything that decides the bytes of the output, as text: a killed run goes on only where this is the same.
    ///
    /// Threads and memory are not in it, since the bytes do not depend on them. Of evidence the name of its store
    /// stands for the text, the source and a GPU.
    pub fn describe(&self) -> Result<String> {
        let form = &self.job.planning.form;
        let task = json!({
            "layout": 2, // of the work directory: one that was laid out otherwise is not gone on with
            "method": self.method.name(),
            "options": pipeline::options(self.method, &self.job.planning.target)?,
            "evidence": self.evidence.key(),
            "aim": self.refit(),
            "plan": self.plan,
            "dtype": form.dtype,
            "dense": form.dense,
            "tables": form.ends,
            "factors": form.factors,
        });
        Ok(task.to_string())
    }

    /// The refit target of this run; none where weights are compressed as they are in the original.
    fn refit(&self) -> Option<RefitTarget> {
        let calibration = &self.job.planning.calibration;
        calibration.refit(self.plan.needs(self.method))
    }
}
