"""Which Wikidata triples atlas learns, and in which order of popularity.

The triples are the T-REx ones that ParaRel lists (`data/trex_lms_vocab`). Left out are the relations in which one
subject has many right objects, the few subjects with two objects in one relation, and triples whose object stands in
the subject's own name: none of them makes a test of recall.

Triples carry no popularity, so one is *assigned*: a seeded shuffle, whose order the file keeps. A fact's row number is
its popularity rank.
"""

import csv
import json
import random
from collections import defaultdict
from pathlib import Path

MANY_TO_MANY = {"P190", "P530", "P37", "P47", "P527"}


def collect(pararel: Path, out: Path, seed: int = 0) -> int:
    """Write `relation,subject,object` rows, most popular first, from a ParaRel folder; return how many.

    Raises:
        FileNotFoundError: the folder holds no `data/trex_lms_vocab/P*.jsonl`.
    """
    files = sorted((pararel / "data" / "trex_lms_vocab").glob("P*.jsonl"))
    if not files:
        raise FileNotFoundError(f"{pararel} holds no data/trex_lms_vocab/P*.jsonl; give the root of a ParaRel checkout")
    objects: dict[tuple[str, str], set[str]] = defaultdict(set)
    for file in files:
        if file.stem in MANY_TO_MANY:
            continue
        for line in file.read_text(encoding="utf-8").splitlines():
            triple = json.loads(line)
            objects[file.stem, triple["sub_label"].strip()].add(triple["obj_label"].strip())
    rows = [
        (relation, subject, next(iter(answers)))
        for (relation, subject), answers in sorted(objects.items())
        if len(answers) == 1 and next(iter(answers)).lower() not in subject.lower()
    ]
    random.Random(seed).shuffle(rows)
    with out.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("relation", "subject", "object"))
        writer.writerows(rows)
    return len(rows)
