//! A run once all of it is known: compressing, and all that is written.

use anyhow::Result;
use compress_calibrate::{Behind, Progress as _, RefitTarget, Sequential};
use compress_checkpoint::{Checkpoint, Writer};
use compress_core::{Method, Plan, Survey, TokenWeights};
use serde_json::json;

use crate::{
    carry_out::{Compressed, Compression},
    evidence::{Bar, Measurements},
    footprint::Parallel,
    job::Running,
    model::Opened,
    pipeline,
    report::run::FinishedRun,
};

/// A run, once all of it is known.
pub struct Task<'a, M: Method> {
    pub method: &'a M,
    pub job: &'a Running,
    pub model: &'a Opened,
    pub survey: Survey<'a>,
    pub plan: &'a Plan<M::Step>,
    pub evidence: &'a Measurements,
    /// The parallelism that memory allows.
    pub parallel: Parallel,
    pub calibrate_seconds: f64,
}

impl<'a, M: Method> Task<'a, M> {
    /// The run as it is told of.
    pub fn done(&self, (compressed, bytes): (Compressed, usize)) -> FinishedRun<'a, M::Step> {
        FinishedRun {
            job: self.job,
            model: self.model,
            plan: self.plan,
            calibration: self.evidence.about(),
            calibrate_seconds: self.calibrate_seconds,
            refit: self.refit(),
            compressed,
            measured: None,
            bytes,
        }
    }

    /// Writes all that the output consists of, and opens it as others will; how many bytes its weights have.
    pub fn compress(&self, writer: &Writer<'_>) -> Result<(Compressed, usize)> {
        // Before the weights: a pass behind compressed blocks reads the output as far as it is written.
        writer.write_others()?;
        let compressed = self.carry_out(writer)?;
        let written = Checkpoint::open(&writer.model())?;
        Ok((compressed, written.file_bytes()))
    }

    /// Compresses all at once, or block after block.
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
        let Some(windows) = self.evidence.windows_in_turn() else {
            return work.at_once();
        };
        let refit = self.refit();
        let written = refit
            .map(|_| Checkpoint::open(&writer.model()))
            .transpose()?;
        let behind = refit.zip(written.as_ref());
        let behind = behind.map(|(refit, written)| Behind { written, refit });
        let attention_weighted = self.plan.tokens() == TokenWeights::Attention;
        let bar = Bar::new(work.quiet);
        let place = writer.work().join("trace");
        let passes = Sequential::begin(
            &self.model.checkpoint,
            windows,
            (behind, attention_weighted),
            (&place, writer.first_block()),
            &bar,
        )?;
        let done = work.in_sequence(&passes, refit)?;
        bar.finish();
        Ok(done)
    }

    /// Everything that decides the bytes of the output, as text.
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

    fn refit(&self) -> Option<RefitTarget> {
        let calibration = &self.job.planning.calibration;
        calibration.refit(self.plan.needs(self.method))
    }
}
