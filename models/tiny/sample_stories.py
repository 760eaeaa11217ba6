"""Sample stories from a small Llama model, as training text.

    python sample_stories.py MODEL_DIR OUT.txt --megabytes 14 --minutes 35

Several processes with different seeds may append to the same file: one a core is faster than one
with as many threads (set OMP_WAIT_POLICY=PASSIVE on a busy machine).

Every batch starts from BOS and is drawn with temperature and top-k in f32 with a key-value cache.
A story ends at BOS or EOS; unfinished, repeated and short ones are dropped. A batch is appended to
OUT.txt in one write, each story followed by a line `<|endoftext|>`. Batch b uses the seed --seed + b.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoTokenizer


class Llama:
    """The forward pass of one new token for a whole batch, with a key-value cache.

    The rows of the output matrix that training never moved apart (most of the 32000 tokens here)
    lie close together at their median; they are left out for speed (in stories15m their probability is
6e-6 in all, and with top-k they would hardly ever be drawn).
    """

    def __init__(self, folder, length):
        c = json.loads((folder / "config.json").read_text())
        w = load_file(folder / "model.safetensors")
        self.heads, self.layers, self.eps = c["num_attention_heads"], c["num_hidden_layers"], c["rms_norm_eps"]
        assert c.get("num_key_value_heads", self.heads) == self.heads, "grouped heads are not handled here"
        self.hidden = c["hidden_size"]
        self.size = self.hidden // self.heads
        self.embed = w["model.embed_tokens.weight"]
        head = self.embed if c["tie_word_embeddings"] else w["lm_head.weight"]
        self.words = (head - head.median(0).values).norm(dim=1).gt(0.2).nonzero().flatten()
        self.head = (head[self.words] * w["model.norm.weight"]).T.contiguous()
        self.blocks = []
        for i in range(self.layers):
            p = lambda name: w[f"model.layers.{i}.{name}.weight"]
            before, after = p("input_layernorm"), p("post_attention_layernorm")
            qkv = torch.cat([p(f"self_attn.{x}_proj") for x in "qkv"]) * before
            up = torch.cat([p(f"mlp.{x}_proj") for x in ("gate", "up")]) * after
            down = p("mlp.down_proj")
            self.blocks.append([m.T.contiguous() for m in (qkv, p("self_attn.o_proj"), up, down)])
        rate = 1.0 / c.get("rope_theta", 10000.0) ** (torch.arange(0, self.size, 2).float() / self.size)
        angle = torch.outer(torch.arange(length).float(), rate).repeat(1, 2)
        self.cos, self.sin = angle.cos(), angle.sin()
        self.length, self.bos, self.eos = length, c["bos_token_id"], c["eos_token_id"]

    def start(self, batch):
        shape = (batch, self.heads, self.length, self.size)
        return [[torch.zeros(shape), torch.zeros(shape)] for _ in range(self.layers)]

    def norm(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)

    def rotate(self, x, t):
        a, b = x.chunk(2, -1)
        return x * self.cos[t] + torch.cat([-b, a], -1) * self.sin[t]

    def step(self, token, t, cache):
        """Logits of `words` after `token` at position `t`."""
        x, n = self.embed[token], len(token)
        for (qkv, out, up, down), (keys, values) in zip(self.blocks, cache):
            q, k, v = (self.norm(x) @ qkv).view(n, 3, self.heads, self.size).unbind(1)
            keys[:, :, t], values[:, :, t] = self.rotate(k, t), v
            q = self.rotate(q, t).unsqueeze(2)
            a = F.scaled_dot_product_attention(q, keys[:, :, : t + 1], values[:, :, : t + 1])
            x = x + a.reshape(n, self.hidden) @ out
            g, u = (self.norm(x) @ up).chunk(2, -1)
            x = x + (F.silu(g) * u) @ down
        return self.norm(x) @ self.head


def draw(logits, temperature, top_k):
    best, index = logits.topk(top_k, sorted=False)
    pick = torch.multinomial((best / temperature).softmax(-1), 1)
    return index.gather(1, pick).squeeze(1)


def sample(model, batch, temperature, top_k):
    """One batch of finished stories as lists of tokens; rows that end leave the batch."""
    cache, ends = model.start(batch), torch.tensor([model.bos, model.eos])
    rows = torch.full((batch, model.length), model.bos)
    alive, stories, steps = torch.ones(batch, dtype=torch.bool), [], 0
    for t in range(model.length - 1):
        token = model.words[draw(model.step(rows[:, t], t, cache), temperature, top_k)]
        rows[:, t + 1] = token
        steps += len(rows)
        ended = alive & torch.isin(token, ends)
        stories += [rows[i, 1 : t + 1].tolist() for i in ended.nonzero().flatten().tolist()]
        alive &= ~ended
        if not alive.any():
            break
        if alive.float().mean() < 0.85:
            cache = [[x[alive] for x in pair] for pair in cache]
            rows, alive = rows[alive], alive[alive]
    return stories, steps


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--megabytes", type=float, default=14.0, help="stop at this size")
    p.add_argument("--minutes", type=float, default=35.0, help="stop after this time")
    p.add_argument("--batch", type=int, default=192)
    p.add_argument("--length", type=int, default=256, help="tokens of the longest story, BOS included")
    p.add_argument("--temperature", type=float, default=0.9)
    p.add_argument("--top-k", type=int, default=100)
    p.add_argument("--shortest", type=int, default=200, help="characters")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()

    torch.set_num_threads(a.threads)
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    model = Llama(a.model, a.length)
    seen, size, drawn, batch, begin = set(), 0, 0, 0, time.time()
    with torch.inference_mode(), a.out.open("ab", buffering=0) as out:
        while size < a.megabytes * 1e6 and time.time() - begin < a.minutes * 60:
            torch.manual_seed(a.seed + batch)
            stories, steps = sample(model, a.batch, a.temperature, a.top_k)
            fresh = ""
            for text in tokenizer.batch_decode(stories, skip_special_tokens=True):
                text = text.strip()
                if len(text) >= a.shortest and text not in seen:
                    seen.add(text)
                    fresh += text + "\n<|endoftext|>\n"
            size += out.write(fresh.encode())
            batch, drawn = batch + 1, drawn + steps
            rate = drawn / (time.time() - begin)
            print(f"batch {batch}: {len(seen)} stories, {size / 1e6:.2f} MB, {rate:.0f} tokens/s", flush=True)


if __name__ == "__main__":
    main()
