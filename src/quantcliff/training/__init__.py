"""The embedded model made again: collect facts, train, evaluate, write its card. In: ParaRel. Out: `atlas`."""
