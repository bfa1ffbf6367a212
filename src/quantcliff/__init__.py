"""Why low-bit language models fail. In: a model and what to ask it. Out: a book, or a verdict."""
