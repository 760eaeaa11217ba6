//! The two matrices with a row for each token.

/// A matrix of vocabulary × hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// What tokens become before the first block.
    Embedding,
    /// What logits are products with; absent where the embedding serves.
    Head,
}

impl Table {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Embedding, Self::Head];

    /// The name of its module.
    #[must_use]
    pub const fn module(self) -> &'static str {
        match self {
            Self::Embedding => "model.embed_tokens",
            Self::Head => "lm_head",
        }
    }

    /// The one whose tensor has a given name.
    #[must_use]
    pub fn of_tensor(name: &str) -> Option<Self> {
        let module = name.strip_suffix(".weight")?;
        Self::ALL.into_iter().find(|table| table.module() == module)
    }
}
