"""Commands about work that is still to come: what it takes, and many runs at once."""

from pathlib import Path

import click

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("source")
@click.option("--model", default="atlas", metavar="FOLDER", help="Whose tokenizer decides what can be asked.")
@click.option("--ask", is_flag=True, help="Ask MODEL, and count first tokens beside whole objects.")
@click.option("--quantized", metavar="FOLDER", help="With --ask: a model to ask the same beside it.")
@click.option("--n-facts", type=int, help="Draw so many.  [default: all]")
@click.option("--device", default="auto", show_default=True, help="With --ask: auto, cpu or cuda.")
def facts(source: str, model: str, ask: bool, quantized: str | None, n_facts: int | None, device: str) -> None:
    """Show what a fact SOURCE holds, what of it cannot be asked and why, and what a model answers.

    SOURCE is "atlas", "smollm2" (those that SmolLM2 knows), a ParaRel or LAMA folder, CounterFact or known facts as
    JSON, or a .jsonl, .json, .csv or .tsv file with the fields prompt (which stops before the answer), subject (as it
    stands in the prompt), object or objects (the right answers), and perhaps relation.
    """
    from quantcliff.diagnosis import objects
    from quantcliff.models import folder_of, load, tokenizer_of
    from quantcliff.probes import facts as fact_sources

    found = fact_sources.load(source, n_facts=n_facts)
    asked = fact_sources.probe(found, tokenizer_of(folder_of(model)))
    told = fact_sources.counts(found, asked)
    reasons = [name for name in told if name not in ("lines", "facts", "several")]
    letters = {reason: chr(ord("a") + number) for number, reason in enumerate(reasons)}
    click.echo(f"{len(asked):,} facts of {source} can be asked of {model}, {len(asked.dropped):,} cannot\n")
    told = told.rename(columns=letters).join(asked.table.groupby("relation").agg(example=("prompt", "first")))
    click.echo(told.sort_values("facts", ascending=False).to_string(max_colwidth=70, na_rep=""))
    click.echo("\nlines: of the source; several: facts with more than one right object; left out:")
    for reason, letter in letters.items():
        gone = asked.dropped[asked.dropped["reason"] == reason]
        click.echo(f"  {letter}  {len(gone):,}  {reason} (as with {gone['subject'].iloc[0]!r})")
    for name in [model, *([quantized] if quantized else [])] if ask else []:
        right = objects.answered(load(name, device=device, base=model), found)
        click.echo(f"\nAnswered by {name}\n{objects.shares(right).to_string(index=False)}")


@click.command()
@click.argument("base")
@click.argument("quantized", required=False)
@click.option("--facts", metavar="SOURCE", help="Facts to ask; see `facts --help`. [default: preset of BASE]")
@click.option("--text", metavar="FILE", help="Ask for the next word in this text instead of facts.")
@click.option("--n-facts", default=400, show_default=True, help="How many facts, or places in the text, to ask.")
@click.option("--method", default="gptq", show_default=True, help="gptq, awq, autoround or rtn, without QUANTIZED.")
@click.option("--bits", default=4, show_default=True, help="Where QUANTIZED is not given: bits per weight.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--dtype", help="Numbers to compute in. [default: preset of BASE]")
def plan(
    base: str, quantized: str | None, facts: str | None, text: str | None, n_facts: int, method: str, bits: int,
    device: str, dtype: str | None,
) -> None:  # fmt: skip
    """Say what `quantize` and `diagnose` will take, before anything runs: memory, disk, time.

    Reads configurations, headers and prompts, and times one layer with random weights on this machine. With QUANTIZED
    it is about `diagnose BASE QUANTIZED` alone. Exit code 3 if memory or disk would not do.
    """
    import shutil
    import sys

    from quantcliff import models, quantizers
    from quantcliff.diagnosis import plan as library
    from quantcliff.study import preset_of

    device, own = models.check_device(device), preset_of(base)
    dtype = dtype or own.dtype
    models.check_dtype(dtype)
    config, size = models.config_of(base), library.Size.of(base)
    prompts = library.Prompts.of(base, facts or own.facts, text, n_facts)
    seconds, known = library.rate(config, prompts.tokens, device, dtype)
    rows = {}
    if quantized:
        library.Size.of(quantized)
    else:
        scheme = quantizers.Scheme(method, bits, own.group_size)
        quantizers.check(scheme, config)
        tokens = 0 if method == "rtn" else library.tokens_of(base, own.calibration)
        rows[f"quantize, {method}, {bits} bits, at least"] = library.quantization(base, size, scheme, tokens, seconds)
    rows["diagnose, at most"] = found = library.diagnosis(size, prompts, seconds, dtype)
    click.echo(
        f"{base}: {size.layers} layers, {size.parameters:,} weights, {library.words(size.stored)} on disk; "
        f"{prompts.n:,} prompts of {prompts.tokens:.1f} tokens ({'counted' if prompts.exact else 'supposed'})\n"
    )
    click.echo(library.table(rows).to_string())
    click.echo(
        f"\nTime: from {known}; {library.passes(found, prompts)}, and the checks; longer where other programs run."
    )
    lacking = library.short(rows, library.free_memory(device), float(shutil.disk_usage(Path()).free))
    for sentence in lacking:
        click.echo(f"quantcliff: {sentence}", err=True)
    sys.exit(3 if lacking else 0)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("file", type=FILE)
@click.option("--cores", default="all", show_default=True, help="Local cores for all cells together.")
@click.argument("more", nargs=-1, type=click.UNPROCESSED)
def grid(file: Path, cores: str, more: tuple[str, ...]) -> None:
    """Run every combination of models, methods, bits and seeds in the YAML FILE, and lay them side by side.

    Quantizes and diagnoses each, as a Snakemake workflow (pip install 'quantcliff[grid]'); what is done is not done
    again, so a killed grid goes on. All further options go to Snakemake: --dry-run, --executor slurm --jobs 20.

    \b
    models: [atlas, path/to/model]
    methods: [gptq, rtn]
    bits: [4, 3, 2]
    seeds: [0, 1]
    out: runs/grid
    n_facts: 400      # and facts, text, group_size, calibration, device, dtype, threads, command
    """
    from quantcliff import grid as library

    asked = library.Grid.read(file)
    try:
        library.start(asked, cores, more)
    finally:
        table = library.compare(asked)
        if len(table):
            click.echo(f"The runs side by side: {library.page(asked, table).resolve()}")
