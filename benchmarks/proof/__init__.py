"""The bench of verdicts, in parts: models, pairs, labels, runs. In: nothing. Out: one small file per finished pair."""
