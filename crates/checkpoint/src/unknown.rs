//! Tensors of a network's parts that nothing here computes with: they would change what it computes
//! elsewhere, so the model is not the one that is read here.

use std::collections::BTreeSet;

use crate::{
    Checkpoint, Error, Result, Table, adapter,
    weights::{bias_name, modules},
};

impl Checkpoint {
    /// Refuses a tensor of a block, of a table or of the correction that is none of those read.
    pub(crate) fn expect_nothing_else(&self) -> Result<()> {
        let config = self.config();
        let parts = modules(config, self.forms(), self.tables());
        let parts = parts.flat_map(|(module, shape, form)| {
            let parts = form.tensors(shape).into_iter();
            parts.map(move |part| part.name(&module))
        });
        let biased = self.forms().iter();
        let biased = biased.filter(|(site, _)| config.has_bias(site.role));
        let biases = biased.map(|(site, form)| bias_name(*site, *form));
        let others = config.other_tensors().into_iter().map(|(name, _)| name);
        let known: BTreeSet<String> = parts.chain(biases).chain(others).collect();
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

    /// Whether a tensor belongs to what is computed with.
    fn is_read(&self, name: &str) -> bool {
        // Wavelengths that follow from config.json, and a head that is the embedding.
        let follows = name.ends_with(".rotary_emb.inv_freq")
            || (self.config().tied && name == "lm_head.weight");
        let of_table = |table: Table| {
            let rest = name.strip_prefix(table.module());
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        let of_block = || {
            let layer = name.strip_prefix("model.layers.")?.split('.').next()?;
            layer.parse::<usize>().ok()
        };
        let of_block = || of_block().is_some_and(|layer| layer < self.config().layers);
        let corrects = name.starts_with(adapter::PREFIX);
        !follows && (corrects || Table::ALL.into_iter().any(of_table) || of_block())
    }
}
