//! How fast a decoder of SmolLM2-135M's shape makes one token of packed weights and plain numbers.
//!
//! Every step of a token is there, with weights that mean nothing: 30 blocks of int4 in groups of 64,
//! a head of int8 rows, 256 tokens in the cache. Two threads each make their half of every product and
//! of the heads, and wait for each other in a loop; what one has made the other copies.
//!
//! ```sh
//! cargo run --release -p compress-core --example token_speed
//! ```

use std::{
    hint::spin_loop,
    ops::Range,
    sync::{
        RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use compress_core::{
    Result, Shape,
    packed::Packed,
    testing::Random,
    token::{attend_one, gate, rms_norm, rotate_halves},
};
use half::f16;

const BLOCKS: usize = 30;
const HIDDEN: usize = 576;
const INNER: usize = 1536;
const HEADS: usize = 9;
const SHARED: usize = 3; // heads of keys and values
const SIZE: usize = 64; // of a head
const VOCABULARY: usize = 49152;
const PAST: usize = 256;
const TOKENS: usize = 60;

struct Weight {
    shape: Shape,
    format: (usize, usize),
    words: Vec<u32>,
    scales: Vec<f16>,
}

impl Weight {
    fn new(rows: usize, cols: usize, (bits, group): (usize, usize), random: &mut Random) -> Self {
        let mut word = || (random.uniform() * 65536.0) as u32;
        let words = 0..rows * cols * bits / 32;
        Self {
            shape: Shape::new(rows, cols),
            format: (bits, group),
            words: words.map(|_| word() << 16 | word()).collect(),
            scales: vec![f16::from_f32(0.01); rows * cols / group],
        }
    }

    fn packed(&self) -> Result<Packed<'_>> {
        Packed::new(self.shape, self.format, &self.words, &self.scales, &[])
    }
}

struct Block<'a> {
    query: Packed<'a>,
    key: Packed<'a>,
    value: Packed<'a>,
    output: Packed<'a>,
    gate: Packed<'a>,
    up: Packed<'a>,
    down: Packed<'a>,
}

/// What the threads of a token tell each other.
struct Table {
    threads: usize,
    arrived: AtomicUsize,
    /// What each has made of the vector that is being made.
    made: Vec<RwLock<Vec<f32>>>,
}

/// One of the threads.
struct Worker<'a> {
    table: &'a Table,
    index: usize,
    meetings: usize,
    scores: Vec<f32>,
}

impl Worker<'_> {
    fn part(&self, count: usize) -> Range<usize> {
        let (index, threads) = (self.index, self.table.threads);
        index * count / threads..(index + 1) * count / threads
    }

    fn meet(&mut self) {
        self.meetings += self.table.threads;
        self.table.arrived.fetch_add(1, Ordering::AcqRel);
        while self.table.arrived.load(Ordering::Acquire) < self.meetings {
            spin_loop();
        }
    }

    /// Makes a part of a vector, and copies what the others have made of it.
    fn share(&mut self, all: &mut [f32], make: impl FnOnce(&mut Self, &mut [f32])) {
        let part = self.part(all.len());
        make(self, &mut all[part.clone()]);
        if let Ok(mut made) = self.table.made[self.index].write() {
            made.clear();
            made.extend_from_slice(&all[part]);
        }
        self.meet();
        let mut rest = all;
        for other in &self.table.made {
            let Ok(made) = other.read() else { return };
            let (part, after) = rest.split_at_mut(made.len());
            part.copy_from_slice(&made);
            rest = after;
        }
        self.meet();
    }

    fn product(&mut self, weight: Packed<'_>, x: &[f32], out: &mut [f32]) {
        let first = self.part(out.len()).start;
        self.share(out, |_, out| {
            if let Some(x) = weight.spread(x) {
                weight.multiply(&x, first, out);
            }
        });
    }

    fn block(&mut self, block: &Block<'_>, cache: &[Vec<f32>; 2], h: &mut [f32]) {
        let gain = [1.0; HIDDEN];
        let (mut x, mut query) = (vec![0.0; HIDDEN], vec![0.0; HIDDEN]);
        let (mut key, mut value) = (vec![0.0; SHARED * SIZE], vec![0.0; SHARED * SIZE]);
        rms_norm(h, &gain, 1e-5, &mut x);
        self.product(block.query, &x, &mut query);
        self.product(block.key, &x, &mut key);
        self.product(block.value, &x, &mut value);
        let (cos, sin) = ([0.8; SIZE / 2], [0.6; SIZE / 2]);
        rotate_halves(&mut query, &cos, &sin);
        rotate_halves(&mut key, &cos, &sin);
        let mut mixed = vec![0.0; HIDDEN];
        for (head, out) in mixed.chunks_exact_mut(SIZE).enumerate() {
            let part = self.part(HEADS);
            if !part.contains(&head) {
                continue;
            }
            let shared = head * SHARED / HEADS * PAST * SIZE;
            let [keys, values] = [
                &cache[0][shared..][..PAST * SIZE],
                &cache[1][shared..][..PAST * SIZE],
            ];
            attend_one(
                &query[head * SIZE..][..SIZE],
                keys,
                values,
                &mut self.scores,
                out,
            );
        }
        let heads = self.part(HEADS);
        let mine = mixed[heads.start * SIZE..heads.end * SIZE].to_vec();
        if self.table.threads > 1 {
            if let Ok(mut made) = self.table.made[self.index].write() {
                *made = mine;
            }
            self.meet();
            let all = self.table.made.iter().filter_map(|made| made.read().ok());
            mixed = all.flat_map(|made| made.clone()).collect();
            self.meet();
        }
        self.product(block.output, &mixed, &mut x);
        h.iter_mut().zip(&x).for_each(|(h, x)| *h += x);
        rms_norm(h, &gain, 1e-5, &mut x);
        let mut inner = vec![0.0; INNER];
        let first = self.part(INNER).start;
        self.share(&mut inner, |_, out| {
            let mut up = vec![0.0; out.len()];
            if let Some(x) = block.gate.spread(&x) {
                block.gate.multiply(&x, first, out);
                block.up.multiply(&x, first, &mut up);
            }
            gate(out, &up);
        });
        self.product(block.down, &inner, &mut x);
        h.iter_mut().zip(&x).for_each(|(h, x)| *h += x);
    }
}

fn run(threads: usize, blocks: &[Block<'_>], head: Packed<'_>, cache: &[[Vec<f32>; 2]]) {
    let table = Table {
        threads,
        arrived: AtomicUsize::new(0),
        made: (0..threads).map(|_| RwLock::default()).collect(),
    };
    let work = |index: usize| {
        let mut worker = Worker {
            table: &table,
            index,
            meetings: 0,
            scores: Vec::new(),
        };
        let mut logits = vec![0.0; VOCABULARY];
        // The best time of each block and of the head: other programs cost single blocks, not all.
        let mut best = [f64::INFINITY; BLOCKS + 1];
        for _ in 0..TOKENS {
            let mut h = head.row(17);
            for ((block, cache), best) in blocks.iter().zip(cache).zip(&mut best) {
                let start = Instant::now();
                worker.block(block, cache, &mut h);
                *best = best.min(start.elapsed().as_secs_f64() * 1e3);
            }
            let start = Instant::now();
            worker.product(head, &h, &mut logits);
            best[BLOCKS] = best[BLOCKS].min(start.elapsed().as_secs_f64() * 1e3);
        }
        best
    };
    let best = thread::scope(|scope| {
        for index in 1..threads {
            scope.spawn(move || work(index));
        }
        work(0)
    });
    let (all, head): (f64, f64) = (best.iter().sum(), best[BLOCKS]);
    println!("{threads} threads: {all:.2} ms a token, {head:.2} of them for the head");
}

fn main() -> Result<()> {
    let random = &mut Random(1);
    let shapes = [
        (HIDDEN, HIDDEN),
        (SHARED * SIZE, HIDDEN),
        (SHARED * SIZE, HIDDEN),
        (HIDDEN, HIDDEN),
        (INNER, HIDDEN),
        (INNER, HIDDEN),
        (HIDDEN, INNER),
    ];
    let weights: Vec<[Weight; 7]> = (0..BLOCKS)
        .map(|_| shapes.map(|(rows, cols)| Weight::new(rows, cols, (4, 64), random)))
        .collect();
    let blocks = weights
        .iter()
        .map(|[query, key, value, output, gate, up, down]| {
            Ok(Block {
                query: query.packed()?,
                key: key.packed()?,
                value: value.packed()?,
                output: output.packed()?,
                gate: gate.packed()?,
                up: up.packed()?,
                down: down.packed()?,
            })
        });
    let blocks: Vec<Block<'_>> = blocks.collect::<Result<_>>()?;
    let head = Weight::new(VOCABULARY, HIDDEN, (8, HIDDEN), random);
    let cache: Vec<[Vec<f32>; 2]> = (0..BLOCKS)
        .map(|_| {
            [0, 1].map(|_| {
                (0..SHARED * PAST * SIZE)
                    .map(|_| random.uniform() - 0.5)
                    .collect()
            })
        })
        .collect();
    for threads in [1, 2] {
        run(threads, &blocks, head.packed()?, &cache);
    }
    Ok(())
}
