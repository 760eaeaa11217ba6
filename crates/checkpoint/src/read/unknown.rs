//! Refusal of tensors in the blocks, embedding, head or adapter that this program does not compute
//! with.
//!
//! Another program would use them (an extra bias, a norm, a gate), so the model that is read here
//! would not be the one that was trained. Tensors outside those parts are copied and not judged.

use compress_core::Site;

use crate::{Checkpoint, Error, Head, Result, names, read::weights::part_names};

impl Checkpoint {
    /// Fails with [`Error::Damaged`] at the first tensor of a computed part that no form, bias or
    /// norm accounts for.
    pub(crate) fn expect_nothing_else(&self) -> Result<()> {
        let config = self.config();
        let biased = self.forms().iter();
        let biased = biased.filter(|(site, _)| config.has_bias(**site));
        let biases = biased.map(|(site, form)| names::bias(*site, *form));
        let others = config.other_tensors().into_iter().map(|(name, _)| name);
        let mut known = part_names(config, self.forms());
        known.extend(biases.chain(others));
        let mut names = self.tensors().keys();
        match names.find(|name| self.is_read(name) && !known.contains(*name)) {
            None => Ok(()),
            Some(name) => {
                let problem = format!(
                    "tensor `{name}` is there, but config.json asks for none, and nothing is known of what it does; the model is not supported"
                );
                Err(Error::damaged(self.path(), problem))
            }
        }
    }

    /// Whether a tensor belongs to a part of the model that is computed with. Blocks beyond the
    /// configured number do not.
    fn is_read(&self, name: &str) -> bool {
        // Rotary frequencies are recomputed from the config, and a tied head repeats the embedding:
        // older exporters stored both.
        let follows = name.ends_with(".rotary_emb.inv_freq")
            || (self.config().head == Head::Embedding && name == names::weight(Site::Head));
        let of_end = |site: Site| {
            let module = names::module(site);
            let rest = name.strip_prefix(&module);
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        let of_block = || names::block(name).is_some_and(|layer| layer < self.config().layers);
        let corrects = name.starts_with(names::ADAPTER);
        let of_ends = || [Site::Embedding, Site::Head].into_iter().any(of_end);
        !follows && (corrects || of_ends() || of_block() || names::is_of_dictionary(name))
    }
}
