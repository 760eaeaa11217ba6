"""compress beside other programs: the same models and shapes in the same run, in turns, and the ratios.

    python benches/beside.py factorise   target/release/compress MODEL           torch.linalg.svd
    python benches/beside.py gptq        target/release/compress MODEL TEXT      GPTQ in PyTorch
    python benches/beside.py calibration target/release/compress MODEL TEXT      H, G and Fisher information, by hooks of PyTorch
    python benches/beside.py evaluate    target/release/compress MODEL TEXT      perplexity by transformers
    python benches/beside.py decode      target/release/compress TEXT            prompts and tokens, by transformers and llama.cpp
    python benches/beside.py gpu         target/release/compress MODEL TEXT      on a machine with a GPU; benches/gpu.sh runs it

Each has a --help of its own. They want PyTorch with transformers and safetensors; gptq also compressed-tensors, and
decode, for llama.cpp, xllamacpp from PyPI. All programs have as many threads (--threads), and the best of --rounds
turns counts: other load makes times longer, and never shorter.
"""

import argparse
import importlib

COMPARISONS = ["factorise", "gptq", "calibration", "evaluate", "decode", "gpu"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("comparison", choices=COMPARISONS)
    p.add_argument("arguments", nargs=argparse.REMAINDER, help="see `beside.py COMPARISON --help`")
    chosen = p.parse_args()

    # Only now: each wants other packages.
    comparison = importlib.import_module(f"beside.{chosen.comparison}")
    p = argparse.ArgumentParser(
        prog=f"beside.py {chosen.comparison}",
        description=comparison.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("program", help="the binary of compress")
    comparison.arguments(p)
    p.add_argument("--threads", type=int, default=2, help="of each program")
    p.add_argument("--rounds", type=int, default=2, help="turns of each program")
    a = p.parse_args(chosen.arguments)
    comparison.run(a)


if __name__ == "__main__":
    main()
