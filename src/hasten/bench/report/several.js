// The filter boxes of a page with several studies: a row stays if it has all the words.
"use strict";
(() => {
  for (const box of document.querySelectorAll("input[data-filter]")) {
    const rows = Array.from(document.querySelectorAll(`#${box.dataset.filter} tbody tr`));
    const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent).concat(row.dataset.words).join(" ").toLowerCase());
    const said = box.parentElement.querySelector("output");
    const show = () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach((row, k) => { row.hidden = !words.every((word) => texts[k].includes(word)); });
      said.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
    };
    box.addEventListener("input", show);
    box.parentElement.hidden = false;
    show(); // what the browser has kept from before
  }
})();
