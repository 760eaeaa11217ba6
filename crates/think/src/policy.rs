//! What a cache keeps: the description that travels beside a model.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, channel_bits::SCALES, integers::GROUP};

/// A policy for all layers of a model, as it is written beside the model's weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Of this format; 1.
    pub version: u32,
    /// The shape of the model that it was made for.
    pub made_for: HeadShape,
    /// For every layer that has none of its own.
    pub common: LayerPolicy,
    /// Layers with a policy of their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub layers: BTreeMap<usize, LayerPolicy>,
}

/// How many heads of keys there are, and how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadShape {
    /// Blocks of the model.
    pub layers: usize,
    /// Heads of keys and values in each.
    pub key_value_heads: usize,
    /// d, channels of a head.
    pub head_size: usize,
}

/// What the cache of one layer keeps of the tokens of a prompt, and of those that follow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LayerPolicy {
    /// How keys of old tokens are stored.
    pub keys: Side,
    /// How values of old tokens are stored.
    pub values: Side,
    /// The share of a prompt's old tokens that stays: those which the last queries attend to most (SnapKV, arXiv
    /// 2404.14469). 1 keeps all.
    pub tokens: f64,
    /// How many of the prompt's last queries score channels and tokens.
    pub window: usize,
    /// How many of the newest tokens are not old.
    pub recent: usize,
    /// How many of the first tokens are not old either. Models attend to the first token wherever they have nothing to
    /// look for (an attention sink, arXiv 2309.17453), and its key is unlike any other.
    pub sinks: usize,
    /// Whether tokens after the prompt become old as they age; if not, they stay whole.
    pub fold: bool,
}

/// How keys, or values, are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Side {
    /// λ, the share of the channels that is dropped, from 0 to below 1.
    pub lambda: f64,
    /// Whether dropped channels count by their mean over the prompt without its sinks.
    pub compensate: bool,
    /// The format of what is kept.
    pub format: Format,
}

/// A format of numbers in a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Format {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats.
    F16,
    /// Integers, for groups of 64 numbers of one channel: small for keys, some of whose channels are large for every
    /// token (KIVI, arXiv 2402.02750).
    ByChannel {
        /// Bits of an integer: 2, 3, 4 or 8.
        bits: u8,
    },
    /// The same with 0, 2, 3, 4 or 8 bits for each channel of keys, as its score is worth.
    Mixed {
        /// Bits of a number on average, those of scales with them.
        bits: f64,
    },
    /// Integers, for groups of 64 channels of one token: the way for values.
    ByToken {
        /// Bits of an integer: 2, 3, 4 or 8.
        bits: u8,
    },
    /// The same after a Hadamard rotation of the head's channels, which spreads large channels over all of them
    /// (QuaRot, arXiv 2404.00456), so that a group needs no other scale than its length.
    Rotated {
        /// Bits of an integer: 2, 3, 4 or 8.
        bits: u8,
    },
}

impl Default for LayerPolicy {
    /// All of it whole; the window and the recent tokens are those of the paper.
    fn default() -> Self {
        Self {
            keys: Side::default(),
            values: Side::default(),
            tokens: 1.0,
            window: 32,
            recent: 32,
            sinks: 0,
            fold: false,
        }
    }
}

impl LayerPolicy {
    /// The policy of the paper: a share λ of the channels of keys is dropped, all else stays.
    #[must_use]
    pub fn think(lambda: f64) -> Self {
        Self {
            keys: Side {
                lambda,
                ..Side::default()
            },
            ..Self::default()
        }
    }

    /// Whether a cache stays as it is.
    #[must_use]
    pub fn keeps_all(&self) -> bool {
        let whole = |side: Side| side.lambda == 0.0 && side.format == Format::F32;
        whole(self.keys) && whole(self.values) && self.tokens >= 1.0
    }

    /// Bytes of a key and a value of an old token, of heads of `size` channels: what is stored, and its scales.
    #[must_use]
    pub fn bytes_of_old(&self, size: usize) -> f64 {
        let side = |side: Side| {
            let kept = size as f64 - (side.lambda * size as f64).floor();
            kept * side.format.bits_stored(kept as usize) / 8.0
        };
        self.tokens * (side(self.keys) + side(self.values))
    }

    /// Whether tokens that are not old are floats of 16 bits: as exact as what they become makes sense of.
    pub(crate) fn newest_in_half(&self) -> bool {
        let mut sides = [self.keys, self.values].into_iter();
        sides.any(|side| side.format != Format::F32)
    }

    /// Refuses what makes no sense for heads of `size` channels.
    fn check(&self, size: usize) -> Result<()> {
        self.keys.check(size)?;
        self.values.check(size)?;
        if let Format::Mixed { .. } = self.values.format {
            let problem = "values have no scores of channels, so that mixed bits are for keys only; use the format rotated";
            return Err(Error::Together { problem });
        }
        setting("tokens", self.tokens, "above 0, and at most 1", |x| {
            x > 0.0 && x <= 1.0
        })?;
        setting("window", self.window as f64, "at least 1", |x| x >= 1.0)
    }
}

impl Side {
    fn check(self, size: usize) -> Result<()> {
        setting("lambda", self.lambda, "from 0 to below 1", |x| {
            (0.0..1.0).contains(&x)
        })?;
        if let Some(bits) = self.format.bits() {
            setting("bits", f64::from(bits), "2, 3, 4 or 8", |_| {
                matches!(bits, 2 | 3 | 4 | 8)
            })?;
        }
        let dropped = self.lambda > 0.0;
        match self.format {
            Format::Mixed { .. } if dropped => {
                let problem = "mixed bits drop channels by themselves; use lambda 0, or the format by_channel";
                Err(Error::Together { problem })
            }
            Format::Mixed { bits } => {
                let wanted = "from 1 to 8.5, where they are mixed";
                setting("bits", bits, wanted, |x| (1.0..=8.5).contains(&x))?;
                // A channel of 2 bits can be paid.
                setting(
                    "head_size",
                    size as f64,
                    "at least 3, for mixed bits",
                    |size| size >= 3.0,
                )
            }
            Format::Rotated { .. } if dropped => {
                let problem = "a rotation mixes the channels of a head, so that dropping channels and rotating exclude each other; use the format by_channel, or lambda 0";
                Err(Error::Together { problem })
            }
            Format::Rotated { .. } => {
                // Blocks of fewer channels than 8 would hardly spread a large one.
                let wanted = "a multiple of 8, to be rotated";
                setting("head_size", size as f64, wanted, |_| size.is_multiple_of(8))
            }
            _ => Ok(()),
        }
    }
}

impl Format {
    /// The bits of integers that all have the same; none for floats.
    #[must_use]
    pub const fn bits(self) -> Option<u8> {
        match self {
            Self::F32 | Self::F16 | Self::Mixed { .. } => None,
            Self::ByChannel { bits } | Self::ByToken { bits } | Self::Rotated { bits } => {
                Some(bits)
            }
        }
    }

    /// Bits that one of `channels` numbers of a token takes, with those of scales.
    fn bits_stored(self, channels: usize) -> f64 {
        // Of tokens, which have a scale for each of their groups of channels.
        let scale = 16.0 * channels.div_ceil(GROUP) as f64 / channels.max(1) as f64;
        match self {
            Self::F32 => 32.0,
            Self::F16 => 16.0,
            Self::Mixed { bits } => bits,
            Self::ByChannel { bits } => f64::from(bits) + SCALES,
            Self::ByToken { bits } => f64::from(bits) + 2.0 * scale,
            Self::Rotated { bits } => f64::from(bits) + scale,
        }
    }
}

impl Policy {
    /// One policy for all layers of a model. Fails where it makes no sense.
    pub fn new(common: LayerPolicy, made_for: HeadShape) -> Result<Self> {
        let policy = Self {
            version: 1,
            made_for,
            common,
            layers: BTreeMap::new(),
        };
        policy.check(made_for)?;
        Ok(policy)
    }

    /// The policy of a layer.
    #[must_use]
    pub fn layer(&self, layer: usize) -> &LayerPolicy {
        self.layers.get(&layer).unwrap_or(&self.common)
    }

    /// Refuses a policy of another version, of another model, or with settings that make no sense.
    pub fn check(&self, model: HeadShape) -> Result<()> {
        setting(
            "version",
            f64::from(self.version),
            "1, of this format",
            |_| self.version == 1,
        )?;
        if self.made_for != model {
            let made_for = self.made_for;
            return Err(Error::Model { made_for, model });
        }
        let own = self.layers.iter();
        if let Some((&layer, _)) = own.clone().find(|(layer, _)| **layer >= model.layers) {
            return setting("layers", layer as f64, "below the model's layers", |_| {
                false
            });
        }
        let all = own.map(|(_, policy)| policy).chain([&self.common]);
        all.into_iter()
            .try_for_each(|policy| policy.check(model.head_size))
    }
}

impl fmt::Display for HeadShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            layers,
            key_value_heads,
            head_size,
        } = self;
        write!(
            f,
            "{layers} layers with {key_value_heads} key-value heads of {head_size} channels"
        )
    }
}

/// An error unless a setting is as it should be; NaN never is.
fn setting(
    name: &'static str,
    value: f64,
    wanted: &'static str,
    right: impl Fn(f64) -> bool,
) -> Result<()> {
    if right(value) {
        Ok(())
    } else {
        Err(Error::Setting {
            name,
            value,
            wanted,
        })
    }
}
