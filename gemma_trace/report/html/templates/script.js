"use strict";
// Everything is on the page without this; it adds sorting, filtering, a readout for the keyboard, and the theme.
(() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const shown = (element) => { element.hidden = false; };

  const theme = document.getElementById("theme");
  const root = document.documentElement;
  const isDark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const nameTheme = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
  nameTheme();
  shown(theme);

  const cellValue = (row, place) => {
    const cell = row.cells[place];
    return "v" in cell.dataset ? Number(cell.dataset.v) : cell.textContent.trim().toLowerCase();
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return (Number.isNaN(a) - Number.isNaN(b)) || a - b;
    return String(a).localeCompare(String(b));
  };
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0];
    const heads = all("thead th", table);
    heads.forEach((head, place) => {
      const name = head.textContent.trim();
      if (!name || "plain" in head.dataset) return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const isText = head.classList.contains("text");
        const order = before ? (before === "ascending" ? "descending" : "ascending") : isText ? "ascending" : "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const rows = [...body.rows].map((row) => [cellValue(row, place), row]);
        rows.sort((a, b) => sign * compare(a[0], b[0]));
        body.append(...rows.map((pair) => pair[1]));
      });
    });
  }

  for (const tools of all(".filter")) {
    const input = tools.querySelector("input");
    const output = tools.querySelector("output");
    const rows = [...document.getElementById(input.dataset.table).tBodies[0].rows];
    const texts = rows.map((row) =>
      [row.textContent, ...all("[title]", row).map((part) => part.title), row.dataset.stages || ""].join(" ").toLowerCase());
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      rows.forEach((row, place) => {
        row.hidden = !words.every((word) => texts[place].includes(word));
        count += !row.hidden;
      });
      output.textContent = words.length ? `${count} of ${rows.length} rows` : "";
    };
    input.addEventListener("input", apply);
    shown(tools);
  }

  for (const tools of all(".folding")) {
    const tree = document.getElementById(tools.dataset.tree);
    const set = (open) => all("details", tree).forEach((node) => { node.open = open; });
    const [unfold, fold] = all("button", tools);
    unfold.addEventListener("click", () => set(true));
    fold.addEventListener("click", () => set(false));
    shown(tools);
  }

  for (const chart of all(".lanes[data-readout]")) {
    const readout = document.getElementById(chart.dataset.readout);
    const waiting = readout.textContent;
    const say = (bar) => {
      all("rect.on", chart).forEach((other) => other.classList.remove("on"));
      if (bar) bar.classList.add("on");
      readout.textContent = bar ? bar.querySelector("title").textContent : waiting;
    };
    for (const lane of all("svg.lane", chart)) {
      const bars = all("rect", lane);
      let place = -1;
      lane.setAttribute("tabindex", "0");
      lane.addEventListener("keydown", (event) => {
        const steps = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: bars.length - 1 };
        if (!(event.key in steps) || !bars.length) return;
        event.preventDefault();
        place = Math.max(0, Math.min(bars.length - 1, steps[event.key]));
        say(bars[place]);
      });
      lane.addEventListener("blur", () => say(null));
      lane.addEventListener("pointerover", (event) => { if (event.target.tagName === "rect") say(event.target); });
      lane.addEventListener("pointerleave", () => say(null));
    }
    shown(readout);
  }

  // A link into a folded part, and a print of the page, unfold it.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
  addEventListener("beforeprint", () => all("details").forEach((node) => { node.open = true; }));
})();
