
// The heat map of a job: what its cells show, how its rows are sorted, and a readout for the pointer and the keyboard.
(() => {
  const map = document.getElementById("heat-map");
  const [body] = map.getElementsByClassName("heat-rows");
  const [show, sort, tools, readout] = ["measure", "sort", "tools", "readout"].map((name) => document.getElementById(`heat-${name}`));
  const waiting = readout.textContent;
  const stages = [...map.querySelectorAll(".heat-head > span")].map((head) => head.textContent);
  const rows = [...body.children];
  const codesOf = (row, measure) => row.dataset[measure].split("|")[0];
  const valuesOf = (row, measure) => row.dataset[measure].split("|")[1].split(",").map(Number);
  const cellsOf = (row) => row.getElementsByTagName("i");

  const order = () => {
    const keys = {
      rank: (row) => -Number(row.dataset.rank),
      largest: (row) => Math.max(...valuesOf(row, show.value).filter((_, place) => codesOf(row, show.value)[place] !== "x")),
    };
    const key = keys[sort.value] || ((row) => valuesOf(row, show.value)[Number(sort.value)]);
    const keyed = rows.map((row) => [key(row), row]);
    keyed.sort((a, b) => b[0] - a[0] || a[1].dataset.rank - b[1].dataset.rank);
    body.append(...keyed.map((pair) => pair[1]));
  };
  const colour = () => {
    for (const row of rows) {
      const codes = codesOf(row, show.value);
      [...cellsOf(row)].forEach((cell, place) => { cell.className = `h${codes[place]}`; });
    }
    for (const legend of document.querySelectorAll(".legend[data-measure]")) legend.hidden = legend.dataset.measure !== show.value;
    order();
  };
  show.addEventListener("change", colour);
  sort.addEventListener("change", order);

  const inMs = (ns) => `${(ns / 1e6).toLocaleString("en", { maximumSignificantDigits: 7 })} ms`;
  const say = (cell) => {
    for (const other of body.querySelectorAll(".on")) other.classList.remove("on");
    if (cell) {
      const row = cell.parentElement;
      const place = [...cellsOf(row)].indexOf(cell);
      cell.classList.add("on");
      const parts = [...show.options].map(({ value, text }) => `${text} ${inMs(valuesOf(row, value)[place])}`);
      const isThere = codesOf(row, show.value)[place] !== "x";
      readout.textContent = `rank ${row.dataset.rank}, ${stages[place]}: ${isThere ? parts.join("; ") : "not on this rank"}`;
    } else readout.textContent = waiting;
  };
  map.addEventListener("pointerover", (event) => { if (event.target.tagName === "I") say(event.target); });
  map.addEventListener("pointerleave", () => say(null));
  map.addEventListener("blur", () => say(null));
  map.addEventListener("keydown", (event) => {
    const at = body.querySelector(".on");
    const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1], PageDown: [16, 0],
      PageUp: [-16, 0], Home: [-rows.length, 0], End: [rows.length, 0] }[event.key] || [0, 0];
    if (!(down || right) || !rows.length) return;
    event.preventDefault();
    const between = (place, count) => Math.max(0, Math.min(count - 1, place));
    const line = at ? between([...body.children].indexOf(at.parentElement) + down, rows.length) : 0;
    const cells = cellsOf(body.children[line]);
    const cell = cells[at ? between([...cellsOf(at.parentElement)].indexOf(at) + right, cells.length) : 0];
    say(cell);
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  tools.hidden = readout.hidden = false;
})();
