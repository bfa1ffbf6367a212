"""Controls that several charts follow: plain HTML inputs, which work with a mouse, a finger and a keyboard.

Vega listens to an input of the page by its id (`follows`), so charts need no script to keep in step. A few lines of
JavaScript do the rest: the play button, the name of a slider's place, and a sentence for those who see no chart.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from string import Template

import altair as alt
from IPython.display import HTML


@dataclass(frozen=True)
class Slider:
    """A slider over places that have names, the first at the left; `start` is the number of the one it begins at."""

    id: str
    label: str
    names: Sequence[str]
    start: int = 0

    @property
    def value(self) -> int:
        return self.start

    @property
    def html(self) -> str:
        return (
            f'<label for="{self.id}">{escape(self.label)}</label>'
            f'<input type="range" id="{self.id}" min="0" max="{len(self.names) - 1}" step="1" value="{self.start}" '
            f'data-names="{escape(json.dumps(list(self.names)))}"><output for="{self.id}"></output>'
        )


@dataclass(frozen=True)
class Choice:
    """A list to choose from: heading -> value -> what is shown for it; one heading that is empty shows no headings."""

    id: str
    label: str
    groups: Mapping[str, Mapping[str, str]]

    @property
    def value(self) -> str:
        """The first, which is chosen at the start."""
        return next(iter(next(iter(self.groups.values()))))

    @property
    def html(self) -> str:
        parts = []
        for heading, options in self.groups.items():
            items = "".join(f'<option value="{escape(v)}">{escape(text)}</option>' for v, text in options.items())
            parts.append(f'<optgroup label="{escape(heading)}">{items}</optgroup>' if heading else items)
        return f'<label for="{self.id}">{escape(self.label)}</label><select id="{self.id}">{"".join(parts)}</select>'


SCRIPT = Template("""
<script>
(() => {
  const bar = document.getElementById("$name"), told = document.getElementById("$name-told");
  const inputs = [...bar.querySelectorAll("select, input")], slider = bar.querySelector("input");
  const sentences = JSON.parse(told.querySelector("script").textContent), said = told.querySelector("p");
  const show = () => {
    const place = JSON.parse(slider.dataset.names)[slider.value];
    slider.setAttribute("aria-valuetext", place);
    slider.nextElementSibling.textContent = place;
    said.textContent = sentences[inputs.map(input => input.value).join("|")] || "";
  };
  inputs.forEach(input => input.addEventListener("input", show));
  const play = bar.querySelector("button");
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
  const go = value => { slider.value = value; slider.dispatchEvent(new Event("input")); };
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (slider.value === slider.max) go(slider.min);
    play.textContent = "Pause";
    timer = setInterval(() => { go(+slider.value + 1); if (slider.value === slider.max) stop(); }, 1400);
  });
  show();
})();
</script>
""")


def bar(name: str, *inputs: Slider | Choice) -> HTML:
    """The controls side by side, with a button that plays the slider (there is one) from left to right.

    Args:
        name: id of the bar; `told` with the same name belongs to it.
    """
    parts = "".join(f'<span class="control">{one.html}</span>' for one in inputs)
    return HTML(
        f'<form class="controls" id="{name}" aria-label="What the charts show" onsubmit="return false">{parts}'
        '<button type="button">Play</button></form>'
    )


def told(name: str, sentences: Mapping[str, str]) -> HTML:
    """What the charts show, in a sentence that changes with the controls and is read out by screen readers.

    Args:
        sentences: the values of all inputs in their order, joined by "|" -> the sentence.
    """
    data = json.dumps(dict(sentences), ensure_ascii=False).replace("</", "<\\/")
    said = f'<p role="status" aria-live="polite">{escape(next(iter(sentences.values())))}</p>'
    store = f'<script type="application/json">{data}</script>'
    return HTML(f'<div class="told" id="{name}-told">{said}{store}</div>{SCRIPT.substitute(name=name)}')


def follows(name: str, control: Slider | Choice) -> alt.Parameter:
    """A chart's parameter of this name, with the control's value: text, so write `+name` where a number is meant."""
    return alt.param(name, value=str(control.value), bind=alt.BindDirect(element=f"#{control.id}", event="input"))
