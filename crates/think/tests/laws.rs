//! What holds for every policy: what is dropped is what scores least, and attention is that over what is stored.

use compress_numerics::{Random, f16};
use compress_think::{
    Error, Format, HeadCache, HeadShape, LayerPolicy, Policy, Side, channel_scores, kept_channels,
};
use proptest::prelude::*;

const SIZE: usize = 16;

fn rows(tokens: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    // Channels of different sizes, as those of real keys are.
    let channel = |i: usize| 1.0 + (i % SIZE) as f32 / 4.0;
    let numbers = (0..tokens * SIZE).map(|i| random.normal() * channel(i));
    numbers.collect()
}

fn filled(tokens: usize) -> HeadCache {
    let mut head = HeadCache::new(SIZE);
    head.extend(&rows(tokens, 1), &rows(tokens, 2));
    head
}

/// A policy for every way to store keys and values.
fn policies() -> Vec<LayerPolicy> {
    let side = |lambda, format| Side {
        lambda,
        compensate: lambda > 0.5,
        format,
    };
    let formats = [
        Format::F32,
        Format::F16,
        Format::ByChannel { bits: 4 },
        Format::ByToken { bits: 3 },
    ];
    let mut sides: Vec<Side> = formats
        .into_iter()
        .flat_map(|format| [0.0, 0.3, 0.7].map(|lambda| side(lambda, format)))
        .collect();
    sides.push(side(0.0, Format::Rotated { bits: 4 }));
    let values = sides.clone();
    sides.push(side(0.0, Format::Mixed { bits: 3.0 }));
    sides.push(Side {
        compensate: true,
        ..side(0.0, Format::Mixed { bits: 1.5 })
    });
    let mut all = Vec::new();
    for (i, &keys) in sides.iter().enumerate() {
        for fold in [false, true] {
            all.push(LayerPolicy {
                keys,
                values: values[(i + 5) % values.len()],
                tokens: if i % 2 == 0 { 1.0 } else { 0.5 },
                window: 8,
                recent: 10,
                sinks: i % 3,
                fold,
            });
        }
    }
    all
}

/// Softmax attention of a query over keys and values, in f64.
fn attention(query: &[f32], keys: &[f32], values: &[f32]) -> Vec<f64> {
    let score = |key: &[f32]| {
        let products = key.iter().zip(query);
        let sum: f64 = products.map(|(&k, &q)| f64::from(k) * f64::from(q)).sum();
        (sum / (SIZE as f64).sqrt()).exp()
    };
    let weights: Vec<f64> = keys.chunks(SIZE).map(score).collect();
    let norm: f64 = weights.iter().sum();
    let mean = |channel: usize| {
        let values = values.chunks(SIZE).map(|value| f64::from(value[channel]));
        weights.iter().zip(values).map(|(w, v)| w * v).sum::<f64>() / norm
    };
    (0..SIZE).map(mean).collect()
}

fn near(found: &[f32], exact: &[f64]) {
    for (x, exact) in found.iter().zip(exact) {
        assert!((f64::from(*x) - exact).abs() < 1e-5, "{x}, not {exact}");
    }
}

proptest! {
    #[test]
    fn what_is_dropped_are_the_outer_products_of_least_norm(seed: u64, queries in 1_usize..6, keys in 1_usize..9, lambda in 0.0..1.0_f64) {
        let (q, k) = (rows(queries, seed), rows(keys, seed ^ 1));
        let kept = kept_channels(&channel_scores(&q, &k, SIZE), lambda);
        // ‖q_i k_iᵀ‖², entry by entry.
        let norm = |i: usize| {
            let (q, k) = (q.iter().skip(i).step_by(SIZE), k.iter().skip(i).step_by(SIZE));
            let entries = q.flat_map(|q| k.clone().map(move |k| f64::from(*q) * f64::from(*k)));
            entries.map(|x| x * x).sum::<f64>()
        };
        let mut order: Vec<usize> = (0..SIZE).collect();
        order.sort_by(|&a, &b| norm(b).total_cmp(&norm(a)));
        let mut best = order[..SIZE - (lambda * SIZE as f64).floor() as usize].to_vec();
        best.sort_unstable();
        prop_assert_eq!(kept.into_iter().map(usize::from).collect::<Vec<_>>(), best);
    }
}

#[test]
fn attention_is_that_over_what_is_stored() {
    let queries = rows(8, 3);
    for policy in policies() {
        for tokens in [1, 7, 40, 300] {
            let mut head = filled(tokens);
            head.thin(&[&queries[..SIZE * tokens.min(8)]], &policy);
            head.extend(&rows(70, 4), &rows(70, 5));
            let [keys, values] = head.whole();
            // Scores of some 10: that of a larger one would have the rounding errors of f32 in its exponential.
            let query: Vec<f32> = rows(1, 6).iter().map(|x| x / 4.0).collect();
            near(&head.attention(&query), &attention(&query, &keys, &values));
        }
    }
}

#[test]
fn one_token_at_a_time_is_many_at_once() {
    let queries = rows(8, 3);
    let (keys, values) = (rows(150, 4), rows(150, 5));
    for policy in policies() {
        let mut many = filled(77);
        many.thin(&[&queries], &policy);
        let mut single = many.clone();
        many.extend(&keys, &values);
        for (key, value) in keys.chunks(SIZE).zip(values.chunks(SIZE)) {
            single.extend(key, value);
        }
        assert_eq!(single.whole(), many.whole(), "{policy:?}");
    }
}

#[test]
fn nothing_dropped_is_nothing_changed() {
    let (mut head, query) = (filled(300), rows(1, 6));
    let before = head.attention(&query);
    head.thin(&[&rows(8, 3)], &LayerPolicy::think(0.0));
    assert_eq!(head.attention(&query), before);
}

#[test]
fn the_newest_tokens_stay_whole() {
    let mut head = filled(100);
    let [keys, values] = head.whole();
    let policy = LayerPolicy {
        values: Side {
            lambda: 0.5,
            ..Side::default()
        },
        recent: 20,
        ..LayerPolicy::think(0.5)
    };
    head.thin(&[&rows(8, 3)], &policy);
    let [thin_keys, thin_values] = head.whole();
    let old = 80 * SIZE;
    assert_eq!(
        (&keys[old..], &values[old..]),
        (&thin_keys[old..], &thin_values[old..])
    );
    for row in thin_keys[..old]
        .chunks(SIZE)
        .chain(thin_values[..old].chunks(SIZE))
    {
        assert_eq!(row.iter().filter(|x| **x == 0.0).count(), SIZE / 2);
    }
}

#[test]
fn the_first_tokens_stay_whole() {
    let policy = LayerPolicy {
        keys: Side {
            format: Format::Mixed { bits: 2.0 },
            ..Side::default()
        },
        sinks: 4,
        recent: 0,
        fold: true,
        ..LayerPolicy::default()
    };
    let queries = rows(8, 3);
    // Prompts with old tokens, with none, and with fewer than there could be first ones.
    for (tokens, recent) in [
        (300, 0),
        (300, 32),
        (10, 32),
        (5, 0),
        (4, 0),
        (3, 32),
        (1, 0),
    ] {
        let mut head = filled(tokens);
        let [keys, values] = head.whole();
        let last = tokens.min(8) * SIZE;
        head.thin(&[&queries[..last]], &LayerPolicy { recent, ..policy });
        head.extend(&rows(200, 4), &rows(200, 5));
        assert_eq!(head.tokens(), tokens + 200);
        let first = |rows: &[f32]| -> Vec<f32> {
            let first = rows[..tokens.min(4) * SIZE].iter();
            first.map(|x| f16::from_f32(*x).to_f32()).collect()
        };
        let [thin_keys, thin_values] = head.whole();
        let (keys, values) = (first(&keys), first(&values));
        let mut places = (0..thin_keys.len() / SIZE).map(|token| token * SIZE);
        let place = places.find(|&place| thin_keys[place..].starts_with(&keys));
        let place = place.unwrap_or_else(|| panic!("no first keys of {tokens}"));
        assert_eq!(thin_values[place..][..values.len()], values);
    }
}

#[test]
fn more_bits_never_hurt_and_mixed_ones_are_worth_more() {
    let queries = rows(8, 3);
    // Queries and keys are larger in later channels: a score of 5⁴ times the least.
    let error = |format| {
        let policy = LayerPolicy {
            keys: Side {
                format,
                ..Side::default()
            },
            recent: 0,
            ..LayerPolicy::default()
        };
        let mut head = filled(1000);
        let [keys, _] = head.whole();
        head.thin(&[&queries], &policy);
        let [stored, _] = head.whole();
        let mut squares = 0.0;
        for query in queries.chunks(SIZE) {
            for (key, stored) in keys.chunks(SIZE).zip(stored.chunks(SIZE)) {
                let error: f32 = (0..SIZE).map(|i| query[i] * (key[i] - stored[i])).sum();
                squares += f64::from(error).powi(2);
            }
        }
        squares
    };
    let mixed: Vec<f64> = [1.0, 1.5, 2.0, 2.5, 3.5, 4.5, 8.5]
        .map(|bits| error(Format::Mixed { bits }))
        .to_vec();
    assert!(mixed.is_sorted_by(|more, less| more > less), "{mixed:?}");
    let rotated = [2, 3, 4, 8].map(|bits| error(Format::Rotated { bits }));
    assert!(
        rotated.is_sorted_by(|more, less| *more > 4.0 * less),
        "{rotated:?}"
    );
    // With scales 2 and 3 bits are 2.5 and 3.5.
    for (bits, mixed) in [(2, mixed[3]), (3, mixed[4])] {
        let same = error(Format::ByChannel { bits });
        assert!(mixed < 0.8 * same, "{bits}: {mixed} for {same}");
    }
}

#[test]
fn a_mean_makes_good_for_channels_that_hardly_vary() {
    // A channel that is the same for all old tokens shifts their scores alike: its mean is all there is to know.
    let constant = |seed| {
        let mut rows = rows(60, seed);
        rows.chunks_mut(SIZE).for_each(|row| row[0] = 2.0);
        rows
    };
    let mut head = HeadCache::new(SIZE);
    head.extend(&constant(1), &constant(2));
    let query = rows(1, 6);
    let exact = head.attention(&query);
    // Queries that do not look at channel 0, so that it is the one that goes.
    let mut queries = rows(8, 3);
    queries.chunks_mut(SIZE).for_each(|row| row[0] = 0.0);
    let error = |compensate| {
        let mut policy = LayerPolicy::think(1.0 / SIZE as f64);
        policy.keys.compensate = compensate;
        let mut head = head.clone();
        head.thin(&[&queries], &policy);
        let pairs = head.attention(&query).into_iter().zip(exact.clone());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(error(true) < 1e-5 && error(false) > 1e-3);
}

#[test]
fn the_share_of_tokens_that_was_asked_for_stays() {
    let mut head = filled(100);
    let policy = LayerPolicy {
        tokens: 0.25,
        ..LayerPolicy::default()
    };
    head.thin(&[&rows(8, 3)], &policy);
    assert_eq!(head.tokens(), 17 + 32);
    // A token that all queries look at is among them.
    let mut head = HeadCache::new(SIZE);
    let (mut keys, values) = (rows(100, 1), rows(100, 2));
    keys[5 * SIZE..6 * SIZE].fill(9.0);
    head.extend(&keys, &values);
    head.thin(&[&[1.0; 8 * SIZE]], &policy);
    let [kept, _] = head.whole();
    assert!(kept.chunks(SIZE).any(|key| key == [9.0; SIZE]));
}

#[test]
fn heads_of_a_layer_keep_as_many_tokens_in_as_many_pages() {
    // Whatever their queries look at, and whichever sinks they would have left out.
    for tokens in 180..230 {
        for (sinks, recent) in [(0, 32), (4, 32), (7, 0)] {
            let policy = LayerPolicy {
                tokens: 0.75,
                sinks,
                recent,
                ..LayerPolicy::default()
            };
            let kept = [1, 2, 3].map(|seed| {
                let mut head = filled(tokens);
                head.thin(&[&rows(8, seed)], &policy);
                (head.tokens(), head.pages())
            });
            let old = tokens - sinks - recent;
            assert_eq!(
                kept[0].0,
                sinks + (0.75 * old as f64).ceil() as usize + recent
            );
            assert_eq!(kept, [kept[0]; 3]);
        }
    }
}

#[test]
fn policies_without_sense_are_refused_by_name() {
    let shape = HeadShape {
        layers: 2,
        key_value_heads: 1,
        head_size: SIZE,
    };
    let refused = |policy: LayerPolicy| Policy::new(policy, shape).unwrap_err().to_string();
    for lambda in [1.0, -0.1, f64::NAN] {
        assert!(refused(LayerPolicy::think(lambda)).contains("lambda"));
    }
    let with = |format| LayerPolicy {
        keys: Side {
            format,
            ..Side::default()
        },
        ..LayerPolicy::default()
    };
    assert!(refused(with(Format::ByChannel { bits: 5 })).contains("2, 3, 4 or 8"));
    for bits in [0.5, 9.0, f64::NAN] {
        assert!(refused(with(Format::Mixed { bits })).contains("from 1 to 8.5"));
    }
    let mut values = with(Format::F32);
    values.values.format = Format::Mixed { bits: 3.0 };
    assert!(refused(values).contains("keys only"));
    let mut both = with(Format::Mixed { bits: 3.0 });
    both.keys.lambda = 0.5;
    assert!(refused(both).contains("by themselves"));
    let rotated = |lambda| LayerPolicy {
        keys: Side {
            lambda,
            compensate: false,
            format: Format::Rotated { bits: 4 },
        },
        ..LayerPolicy::default()
    };
    assert!(refused(rotated(0.5)).contains("rotation"));
    let nothing = LayerPolicy {
        tokens: 0.0,
        ..LayerPolicy::default()
    };
    assert!(refused(nothing).contains("tokens"));
    let policy = Policy::new(rotated(0.0), shape).unwrap();
    let other = HeadShape { layers: 3, ..shape };
    assert!(matches!(policy.check(other), Err(Error::Model { .. })));
}

#[test]
fn a_policy_comes_back_from_its_file_and_nothing_unknown_is_skipped() {
    let shape = HeadShape {
        layers: 2,
        key_value_heads: 1,
        head_size: SIZE,
    };
    for policy in policies() {
        let mut policy = Policy::new(policy, shape).unwrap();
        policy.layers.insert(1, LayerPolicy::think(0.25));
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
        // Of all layers, and of one.
        for place in [text.find("window"), text.rfind("window")] {
            let mut unknown = text.clone();
            unknown.insert(place.unwrap(), 'x');
            assert!(
                serde_json::from_str::<Policy>(&unknown).is_err(),
                "{unknown}"
            );
        }
    }
}

#[test]
fn a_prompt_without_old_tokens_still_says_which_channels_fold() {
    let policy = LayerPolicy {
        values: Side {
            lambda: 0.5,
            compensate: true,
            ..Side::default()
        },
        recent: 40,
        fold: true,
        ..LayerPolicy::default()
    };
    let mut head = filled(20);
    head.thin(&[&rows(8, 3)], &policy);
    let (keys, values) = (rows(100, 4), rows(100, 5));
    head.extend(&keys, &values);
    let [_, stored] = head.whole();
    // Channels grow with their index: the first go, and what is behind the prompt has no mean of them.
    for row in stored[..64 * SIZE].chunks(SIZE) {
        assert_eq!(row.iter().filter(|x| **x == 0.0).count(), SIZE / 2);
        assert!(row[..SIZE / 4].iter().all(|x| *x == 0.0), "{row:?}");
    }
}
