// Shows the syncs of the embedded JSON as a table that can be searched. All values are inserted as text.
"use strict";
(() => {
  const PAGE = 100;
  const at = (id) => document.getElementById(id);
  const all = JSON.parse(at("data").textContent).map((cells) => ({ cells, text: cells.join("\n").toLowerCase() }));
  let shown = PAGE;

  function cell(row, parts, kind = "") {
    const element = row.insertCell();
    element.className = kind;
    for (const part of parts.filter(Boolean)) {
      const line = document.createElement("div");
      line.textContent = part;
      element.append(line);
    }
  }

  function show() {
    const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const state = at("state").value;
    const found = all.filter(
      ({ cells, text }) => (!state || cells[1] === state) && words.every((word) => text.includes(word)),
    );
    const rows = document.createElement("tbody");
    for (const { cells } of found.slice(0, shown)) {
      const [company, kind, outcome, seconds, ended, syncId, commerceId, cause, reason] = cells;
      const row = rows.insertRow();
      cell(row, [company], "id");
      cell(row, [outcome, cause, reason], `outcome ${kind}`);
      cell(row, [seconds === null ? "" : seconds.toFixed(1)], "number");
      cell(row, [ended]);
      cell(row, [syncId, commerceId === syncId ? "" : commerceId], "id");
    }
    at("rows").replaceChildren(...rows.rows);
    at("table").hidden = found.length === 0;
    const few = found.length > shown ? `, the first ${shown} shown` : "";
    at("found").textContent = `${found.length.toLocaleString("en")} of ${all.length.toLocaleString("en")}${few}`;
    at("more").hidden = found.length <= shown;
  }

  function restart() {
    shown = PAGE;
    show();
  }

  at("search").addEventListener("input", restart);
  at("state").addEventListener("change", restart);
  at("more").addEventListener("click", () => {
    shown += 5 * PAGE;
    show();
  });
  at("controls").hidden = false;
  show();
})();
