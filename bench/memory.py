#!/usr/bin/env python3
"""Memory of blocks as large as LLaMA-2-70B's, and of runs that are held to less than they would take.

Two tables: `large` calibrates blocks of LLaMA-2-70B's shape (random weights, written here once) for a
few steps, `bounded` all blocks of SmolLM2-135M with each of the options that bound memory and disk.
See bench/README.md.
"""
import argparse
import json
import pathlib
import shutil
import struct

import numpy

import rows
import runs

GIB = 1024.0 ** 3
MIB = 2**20
BLOCKS, VOCABULARY = 2, 512
SHAPE = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
         "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64,
         "num_key_value_heads": 8, "num_hidden_layers": BLOCKS, "vocab_size": VOCABULARY,
         "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 4096,
         "tie_word_embeddings": True, "torch_dtype": "bfloat16"}
# Name and options of each row.
LARGE = (("float32, one block", ("--dtype", "float32", "--hidden-layer-num", 1)),
         ("bfloat16, one block", ("--dtype", "bfloat16", "--hidden-layer-num", 1)),
         ("bfloat16, two blocks", ("--dtype", "bfloat16", "--wave", 2)),
         ("bfloat16, two blocks, --resident-blocks 1",
          ("--dtype", "bfloat16", "--wave", 2, "--resident-blocks", 1)))
# Likewise, and the MiB of memory that a run is held to: kept targets of a wave are 324.
BOUNDED = (("", (), 1024),
           ("--targets memory", ("--targets", "memory"), 1536),
           ("--targets recompute", ("--targets", "recompute"), 1024),
           ("--resident-blocks 1", ("--resident-blocks", 1), 1024),
           ("--targets recompute --resident-blocks 1",
            ("--targets", "recompute", "--resident-blocks", 1), 1024))


def tensors_of_a_block(block):
    hidden, inner = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    values = hidden // SHAPE["num_attention_heads"] * SHAPE["num_key_value_heads"]
    name = f"model.layers.{block}."
    return {name + "input_layernorm.weight": (hidden,),
            name + "post_attention_layernorm.weight": (hidden,),
            name + "self_attn.q_proj.weight": (hidden, hidden),
            name + "self_attn.k_proj.weight": (values, hidden),
            name + "self_attn.v_proj.weight": (values, hidden),
            name + "self_attn.o_proj.weight": (hidden, hidden),
            name + "mlp.gate_proj.weight": (inner, hidden),
            name + "mlp.up_proj.weight": (inner, hidden),
            name + "mlp.down_proj.weight": (hidden, inner)}


def bfloat16(values):
    """float32 to the upper halves of its words: cut off, as nobody looks at these weights."""
    return (values.view(numpy.uint32) >> 16).astype(numpy.uint16)


def make_model(folder):
    """A checkpoint of that shape, with weights of about a trained model's size; kept."""
    file = folder / "model.safetensors"
    if file.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_json(folder / "config.json", SHAPE)
    shapes = {"model.embed_tokens.weight": (VOCABULARY, SHAPE["hidden_size"]),
              "model.norm.weight": (SHAPE["hidden_size"],)}
    for block in range(BLOCKS):
        shapes |= tensors_of_a_block(block)
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    draw = numpy.random.default_rng(2)
    unfinished = file.with_suffix(".tmp")
    with open(unfinished, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            if len(shape) == 1:
                values = numpy.ones(shape, numpy.float32)
            else:
                values = draw.standard_normal(shape, numpy.float32) * numpy.float32(0.02)
            bfloat16(values).tofile(out)
    unfinished.replace(file)
    ids = draw.integers(0, VOCABULARY, (4, 256), numpy.int32)
    numpy.save(folder / "tokens.npy", ids)


def calibrate(options, run, job, limit=()):
    shutil.rmtree(run, ignore_errors=True)
    result = run.with_suffix(".json")
    runs.run_logged([*limit, runs.PROGRAM, "calibrate", "--run", run, "--json", result, "--threads",
                     options.threads, *job], run.with_suffix(".log"))
    found = runs.read_json(result)
    return {"memory": max(found["peak_memory_bytes"]), "seconds": found["seconds"],
            "steps": found["block_steps"]}


def large(options, folder):
    model = folder / "llama-2-70b-blocks"
    make_model(model)
    lines = [rows.table_line(("blocks of LLaMA-2-70B's shape", "peak memory [GiB]", "block steps",
                              "seconds")), "|---|--:|--:|--:|"]
    for number, (name, more) in enumerate(LARGE):
        job = ["--model", model, "--calib", model / "tokens.npy", "--nsamples", 4,
               "--seqlen", 256, "--recipe", "lrquant-w4a4", "--epochs", 1, *more]
        run = folder / f"large-{number}"
        found = calibrate(options, run, job)
        shutil.rmtree(run)
        lines.append(rows.table_line((name, f"{found['memory'] / GIB:.2f}", str(found["steps"]),
                                      f"{found['seconds']:.0f}")))
        runs.say(lines[-1])
    return ("\n".join(lines) + "\n\n4 samples of 256 tokens, lrquant-w4a4, one epoch, start and "
            f"frozen blocks measured too; one rank, {options.threads} threads.\n")


def bounded(options, folder):
    lines = [rows.table_line(("options", "held to [MiB]", "peak memory [MiB]", "activations on disk at the end "
                              "[MiB]", "seconds", "blocks equal the first row's")),
             "|---|--:|--:|--:|--:|---|"]
    first = None
    for number, (name, more, limit) in enumerate(BOUNDED):
        run = folder / f"bounded-{number}"
        job = ["--model", runs.MODEL, "--calib", runs.TEXTS / "valid.joined.txt", "--calib-stride",
               500, "--nsamples", 64, "--seqlen", 256, "--recipe", "lrquant-w4a4", "--epochs", 1,
               "--wave", 8, "--dtype", "float32", *more]
        found = calibrate(options, run, job, ("prlimit", f"--data={limit * MIB}"))
        on_disk = sum(file.stat().st_size for file in (run / "activations").iterdir())
        shutil.rmtree(run / "activations")
        equal = first is None or runs.blocks_are_equal(first, run)
        first = first or run
        lines.append(rows.table_line((name or "none", str(limit), f"{found['memory'] / MIB:.0f}",
                                      f"{on_disk / MIB:.0f}", f"{found['seconds']:.0f}",
                                      "yes" if equal else "NO")))
        runs.say(lines[-1])
    return ("\n".join(lines) + "\n\nSmolLM2-135M, 30 blocks, 64 samples of 256 tokens, "
            "lrquant-w4a4, waves of 8, one epoch, float32; one rank, "
            f"{options.threads} thread(s), held to so much memory of its own (RLIMIT_DATA).\n")


def work(options):
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    page = {"large": large, "bounded": bounded}[options.table](options, folder)
    return rows.finish(page, options.out, [], 0, folder)


def main():
    parser = argparse.ArgumentParser(prog="launch/bench memory", description=__doc__)
    parser.add_argument("--table", choices=("large", "bounded"), default="large",
                        help="which table (default %(default)s; large wants 12 GiB of memory and "
                             "4 GB of disk)")
    parser.add_argument("--out", metavar="FILE", help="write the table to this file too")
    rows.add_number(parser, "--threads", 1, "threads of a rank")
    parser.add_argument("--folder", type=pathlib.Path, default=runs.FOLDER / "memory",
                        metavar="DIR", help="the large model and run directories "
                                            "(default %(default)s)")
    options = parser.parse_args()
    runs.run_main("memory", lambda: work(options))


if __name__ == "__main__":
    main()
