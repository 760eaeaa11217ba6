//! The model card: what this is, what it cost, and how to load it.

use compress_core::Site;
use minijinja::{Environment, context};

use crate::{Error, Layout, Record, Result};

/// The parts of the card that the record does not have.
#[derive(Clone, Debug)]
pub struct Card {
    /// The name of the output.
    pub name: String,
    /// The table of before and after, as Markdown; empty where nothing was measured.
    pub table: String,
    /// The command that made it.
    pub command: String,
}

const TEMPLATE: &str = include_str!("card.md.jinja");

impl Card {
    /// The text of `README.md`.
    pub(crate) fn render(&self, record: &Record, layout: &Layout) -> Result<String> {
        let remote_code = layout.ranks().next().is_some();
        let schemes = layout.schemes();
        let rounded = schemes.blocks.map(|scheme| scheme.to_string());
        let rounded_tables = schemes.ends.map(|scheme| scheme.to_string());
        let kernels = schemes.blocks.is_none_or(|scheme| scheme.bits.count() >= 4);
        let serves = kernels && rounded_tables.is_none();
        let tied = !layout.forms().contains_key(&Site::Head);
        let only_here = tied && rounded_tables.is_some();
        // vLLM takes these sizes only.
        let sizes = [8, 16, 32, 64, 128, 256, 320, 512];
        let corrected = layout.corrections().next();
        let corrected =
            corrected.and_then(|(_, rank)| sizes.into_iter().find(|&size| size >= rank));
        let Self {
            name,
            table,
            command,
        } = self;
        let Record {
            method,
            dense,
            format,
            source,
            ..
        } = record;
        let base = &source.name;
        let bytes = layout.bytes();
        let parameters = layout.parameters();
        Environment::new()
            .render_str(TEMPLATE, context! { name, table, command, base, method, dense, format, remote_code, rounded, rounded_tables, tied, only_here, kernels, serves, corrected, bytes, parameters })
            .map_err(|e| Error::damaged("README.md", e.to_string()))
    }
}
