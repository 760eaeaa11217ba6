//! The output head of a model: a matrix of its own, the embedding, or none.
//!
//! `tie_word_embeddings` says which, and is not always true to the tensors: exporters store a tied head beside the
//! embedding, and training with an adapter on the head leaves one that differs under a config that still ties them.

use compress_core::Site;

use crate::{Checkpoint, Head, Result, huggingface::config::CAUSAL, names};

/// Bytes that are compared at a time.
const PIECE: usize = 1 << 20;

impl Checkpoint {
    /// Sets the config's head to what the tensors are.
    pub(crate) fn find_head(&mut self) -> Result<()> {
        let stored = self.tensors().contains_key(&names::weight(Site::Head));
        match self.config().head {
            // A classifier, or the decoder alone.
            Head::Own if !stored && self.config().class != CAUSAL => {
                self.config_mut().head = Head::Nowhere;
            }
            Head::Embedding if stored && !self.head_repeats_embedding()? => {
                let config = self.config_mut();
                config.head = Head::Own;
                config
                    .json
                    .insert("tie_word_embeddings".into(), false.into());
                self.warn(
                    "config.json says that the head is the embedding, but the file has another one; it is taken as it is, and written so".into(),
                );
            }
            Head::Own | Head::Embedding | Head::Nowhere => {}
        }
        Ok(())
    }

    /// Whether the tensors of head and embedding have the same bytes.
    fn head_repeats_embedding(&self) -> Result<bool> {
        let [head, embedding] = [Site::Head, Site::Embedding].map(names::weight);
        let (one, other) = (self.tensor(&head)?, self.tensor(&embedding)?);
        if (&one.shape, &one.kind) != (&other.shape, &other.kind) {
            return Ok(false);
        }
        for start in (0..one.bytes()).step_by(PIECE) {
            let piece = start..one.bytes().min(start + PIECE);
            if self.part(&head, piece.clone())? != self.part(&embedding, piece)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
