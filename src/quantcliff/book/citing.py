"""How the bibliography names a work: by author and year, as the text cites it."""

from collections import Counter
from collections.abc import Iterable, Iterator

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style as Plain
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx


def label(entry: Entry) -> str:
    """`Frantar et al., 2022`; two authors are both named, an entry without authors goes by its title.

    Example:
        >>> from pybtex.database import parse_string
        >>> label(parse_string("@misc{k, author={Ada Bo and Cy Do}, year=2020, title={T}}", "bibtex").entries["k"])
        'Bo and Do, 2020'
    """
    names = [" ".join(person.prelast_names + person.last_names) for person in entry.persons.get("author", [])]
    if names[1:] == ["others"] or len(names) > 2:
        who = f"{names[0]} et al."
    else:
        who = " and ".join(names) or str(entry.fields["title"])
    return f"{who}, {entry.fields.get('year', 'no year')}"


class AuthorYearLabels(BaseLabelStyle):
    """Labels by author and year; works that would share one get a, b, c."""

    def format_labels(self, sorted_entries: Iterable[Entry]) -> Iterator[str]:
        """One label for each entry, in order."""
        plain = [label(entry) for entry in sorted_entries]
        shared, seen = Counter(plain), Counter[str]()
        for name in plain:
            letter = chr(ord("a") + seen[name]) if shared[name] > 1 else ""
            seen[name] += 1
            yield name + letter


class AuthorYear(Plain):
    """Sorted by author and year, labelled by author and year."""

    default_label_style = AuthorYearLabels


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    register_plugin("pybtex.style.formatting", "authoryear", AuthorYear)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
