"""Dynamo's RadixTree, asked from Python, in an interpreter that has it: `dynamo_side.py` under the peer's environment.

Reads pickled stretches `(worker, parent, hashes, tokens)` and prompts until None, then lists of prompts' numbers; each
is answered by a pickled list of `(seconds, {worker: blocks})`. A prompt's blocks are hashed right before it is asked
about, untimed.
"""

import json
import pickle
import sys
import time
from array import array

from dynamo.llm import RadixTree, compute_block_hash_for_seq

BLOCK_TOKENS = 16
BLOCKS_PER_EVENT = 32
BLOCK_BYTES = 4 * BLOCK_TOKENS


def local_hashes(tokens):
    return compute_block_hash_for_seq(array("I", tokens).tolist(), BLOCK_TOKENS)


def fill(tree, stretches):
    """Dynamo takes engines to hash alike: all who hold a block tell it by the hash that the first of them gave it."""
    known, firsts = {}, {}
    for number, (worker, parent, hashes, tokens) in enumerate(stretches):
        first, local = known.setdefault(tokens, (hashes, None))
        if local is None:
            local = local_hashes(tokens)
            known[tokens] = first, local
        firsts.update(zip(hashes, first, strict=True))
        parent = firsts.get(parent)
        for start in range(0, len(first), BLOCKS_PER_EVENT):
            these = slice(start, start + BLOCKS_PER_EVENT)
            pairs = zip(first[these], local[these], strict=True)
            blocks = [{"block_hash": of_engine, "tokens_hash": own} for of_engine, own in pairs]
            stored = {"parent_hash": parent, "blocks": blocks}
            event = {"event_id": number, "data": {"stored": stored}, "dp_rank": 0}
            tree.apply_event(worker, json.dumps(event).encode())
            parent = first[these][-1]


def timed(tree, asked):
    began = time.perf_counter()
    scores = tree.find_matches(asked).scores
    seconds = time.perf_counter() - began
    return seconds, {worker: blocks for (worker, _), blocks in scores.items()}


def main():
    told = sys.stdin.buffer
    stretches, prompts = pickle.load(told), pickle.load(told)
    tree = RadixTree()
    fill(tree, stretches)
    while True:
        answers = [timed(tree, local_hashes(prompts[number])) for number in pickle.load(told)]
        pickle.dump(answers, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        main()
    except EOFError:
        sys.exit()
