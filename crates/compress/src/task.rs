//! A run once all of it is known: compressing, and all that is written.

use anyhow::Result;
use compress_calibrate::{Aim, Behind, Progress as _, Sequential};
use compress_checkpoint::{Checkpoint, Writer};
use compress_core::{Method, Plan, Survey, Tokens};
use serde_json::json;

use crate::{
    carry_out::{Compressed, Work},
    evidence::{Bar, Evidence},
    footprint::Parallel,
    job::Running,
    model::Opened,
    pipeline,
    report::run::Done,
};

/// What is to be done, once all of it is known.
pub struct Task<'a, M: Method> {
    pub method: &'a M,
    pub job: &'a Running,
    pub model: &'a Opened,
    pub survey: Survey<'a>,
    pub plan: &'a Plan<M::Step>,
    pub evidence: &'a Evidence,
    /// What may be under way at the same time.
    pub parallel: Parallel,
    pub calibrate_seconds: f64,
}

impl<'a, M: Method> Task<'a, M> {
    /// The run as it is told of.
    pub fn done(&self, (compressed, bytes): (Compressed, usize)) -> Done<'a, M::Step> {
        Done {
            job: self.job,
            model: self.model,
            plan: self.plan,
            calibration: self.evidence.about(),
            calibrate_seconds: self.calibrate_seconds,
            aim: self.aim(),
            compressed,
            measured: None,
            bytes,
        }
    }

    /// Writes all that the output consists of, and opens it as others will; how many bytes its weights have.
    pub fn compress(&self, writer: &Writer<'_>) -> Result<(Compressed, usize)> {
        // Before the weights: a walk behind compressed blocks reads the output as far as it is written.
        writer.write_others()?;
        let compressed = self.carry_out(writer)?;
        let written = Checkpoint::open(&writer.model())?;
        Ok((compressed, written.file_bytes()))
    }

    /// Compresses all at once, or block after block.
    fn carry_out(&self, writer: &Writer<'_>) -> Result<Compressed> {
        let planning = &self.job.planning;
        let work = Work {
            method: self.method,
            plan: self.plan,
            survey: &self.survey,
            writer,
            form: &planning.form,
            parallel: &self.parallel,
            quiet: planning.printing.quiet,
        };
        let Some(windows) = self.evidence.to_walk() else {
            return work.at_once();
        };
        let aim = self.aim();
        let written = aim.map(|_| Checkpoint::open(&writer.model())).transpose()?;
        let behind = aim.zip(written.as_ref());
        let behind = behind.map(|(aim, written)| Behind { written, aim });
        let attended = self.plan.tokens() == Tokens::Attended;
        let bar = Bar::new(work.quiet);
        let place = writer.work().join("walk");
        let walks = Sequential::begin(
            &self.model.checkpoint,
            windows,
            (behind, attended),
            (&place, writer.first_block()),
            &bar,
        )?;
        let done = work.in_sequence(&walks, aim)?;
        bar.finish();
        Ok(done)
    }

    /// Everything that decides the bytes of the output, as text.
    pub fn describe(&self) -> Result<String> {
        let form = &self.job.planning.form;
        let task = json!({
            "method": self.method.name(),
            "options": pipeline::options(self.method, &self.job.planning.target)?,
            "evidence": self.evidence.key(),
            "aim": self.aim(),
            "plan": self.plan,
            "dtype": form.dtype,
            "dense": form.dense,
            "tables": form.ends,
            "factors": form.factors,
        });
        Ok(task.to_string())
    }

    fn aim(&self) -> Option<Aim> {
        let calibration = &self.job.planning.calibration;
        calibration.aim(self.plan.needs(self.method))
    }
}
