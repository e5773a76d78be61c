// The page's only own script: draws the charts and sorts tables. Everything else is plain HTML.
"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("charts").textContent);

  // As many legend columns as fit beside each other on this screen.
  const columns = (width, entry) => Math.max(1, Math.floor((width - 40) / entry));

  const draw = (holder) => {
    const spec = specs[holder.dataset.chart];
    spec.config.legend.columns = columns(holder.clientWidth, spec.usermeta.legendEntry);
    return vegaEmbed(holder, spec, { mode: "vega-lite", renderer: "svg", actions: false, ast: true });
  };

  const fail = (holder) => (error) => {
    holder.textContent = "This chart could not be drawn.";
    console.error(error);
  };

  // Numbers are compared by the exact value in data-sort, text by the rules of language; unknown comes last.
  const compare = (a, b) => {
    const x = a.dataset.sort, y = b.dataset.sort;
    if (x !== undefined && y !== undefined) return Number(x) - Number(y);
    return a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
  };
  const unknown = (cell) => cell.dataset.sort === undefined && cell.textContent === "–";

  const sort = (heading) => {
    const table = heading.closest("table"), index = heading.cellIndex, body = table.tBodies[0];
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = Array.from(body.rows, (row) => ({ row, cell: row.cells[index] }));
    rows.sort((a, b) => unknown(a.cell) - unknown(b.cell) || (down ? compare(b.cell, a.cell) : compare(a.cell, b.cell)));
    body.append(...rows.map((item) => item.row));
  };

  for (const button of document.querySelectorAll("table.sortable th button")) {
    button.addEventListener("click", () => sort(button.parentElement));
  }
  for (const holder of document.querySelectorAll("[data-chart]")) draw(holder).catch(fail(holder));
})();
