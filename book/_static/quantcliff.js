/* What the theme leaves undone: controls that are called what they show, boxes that scroll by keyboard, charts that
   follow their column, a printed page on which nothing is folded. */
"use strict";
(() => {
  const each = (selector, act) => document.querySelectorAll(selector).forEach(act);

  // A screen reader and the screen say the same: a label that hides the visible text goes.
  function name() {
    each("main summary[aria-label]", summary => summary.removeAttribute("aria-label"));
    each(".theme-switch-button svg > title", title => {  // the icon's own name, beside that of its button
      title.parentNode.setAttribute("aria-hidden", "true");
      title.remove();
    });
    each(".citation-list[role=list]", list => list.removeAttribute("role"));  // its entries have a role of their own
    each("dt.sig dl", list => list.setAttribute("role", "list"));  // parameters, one on a line: no terms of a definition
    each("dt.sig dl > dd", parameter => parameter.setAttribute("role", "listitem"));
    each("summary:not([aria-label])", summary => {  // an arrow beside a page that has pages below it
      const page = summary.closest("li")?.querySelector("a");
      if (!summary.innerText.trim() && page) summary.setAttribute("aria-label", `Pages below ${page.innerText.trim()}`);
    });
    each("button[aria-label]", button => {
      const seen = button.innerText.trim();
      if (seen && !button.getAttribute("aria-label").includes(seen)) button.removeAttribute("aria-label");
    });
  }

  // Whatever scrolls sideways can be reached by keyboard, and only that.
  function reach() {
    each("main table, main pre, main .cell_output, main .output, main mjx-container, main figure", box => {
      const scrolls = box.scrollWidth > box.clientWidth + 1
        && ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
      if (scrolls) box.tabIndex = 0;
      else if (box.dataset.reached) box.removeAttribute("tabindex");
      box.dataset.reached = scrolls || "";
    });
  }

  // Vega asks how wide its column is while its own old picture may still hold the column open; so it is asked again.
  function follow() {
    const stale = [...document.querySelectorAll(".vega-embed.fit-x .chart-wrapper")].some(box => {
      const drawn = Number(box.querySelector("svg")?.getAttribute("width"));
      return drawn && box.clientWidth && Math.abs(drawn - box.clientWidth) > 1;
    });
    if (stale) window.dispatchEvent(new Event("resize"));
    return stale;
  }

  let waiting, tries = 0;
  function settle() {
    clearTimeout(waiting);
    waiting = setTimeout(() => { tries = follow() && tries < 5 ? tries + 1 : 0; name(); reach(); if (tries) settle(); }, 150);
  }

  addEventListener("load", () => {
    name();
    reach();
    each(".theme-switch-button", button => new MutationObserver(name).observe(button, { childList: true, subtree: true }));
    new ResizeObserver(settle).observe(document.querySelector("main") ?? document.body);
  });

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("main details:not([open])")];
    opened.forEach(part => part.setAttribute("open", ""));
    window.dispatchEvent(new Event("resize"));
  });
  addEventListener("afterprint", () => opened.forEach(part => part.removeAttribute("open")));
})();
