"use strict";
// Sorting and filtering of a table that is whole in the HTML.
// A cell sorts by its data-value, or else by its text; one that says "-" has no value and stays last in both orders.
// Of a long table the first rows are shown until all are asked for: laying out a thousand takes a second.

const collator = new Intl.Collator("en", { numeric: true });

function key(cell) {
  const text = cell.dataset.value === undefined ? cell.textContent.trim() : cell.dataset.value;
  if (text === "-" || text === "") return null;
  const number = Number(text);
  return Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b));
}

/** The rows by a column; equal ones keep the order that they have in the file. */
function sorted(rows, column, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = rows.map((row, place) => ({ row, place, key: key(row.cells[column]) }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
    return sign * compare(a.key, b.key) || a.place - b.place;
  });
  return keyed.map((one) => one.row);
}

/** What the reader wants to see, as a test of a row: one of the states, what is chosen, and all words. */
function wish(filters) {
  const shown = new Set(Array.from(filters.querySelectorAll("[name=status]:checked"), (box) => box.value));
  const chosen = Array.from(filters.querySelectorAll("select")).filter((one) => one.value !== "");
  const words = filters.querySelector("[name=text]").value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (given, { value, dataset }) => ("atLeast" in dataset ? Number(given) >= Number(value) : given === value);
  return (row) => shown.has(row.dataset.status) && chosen.every((one) => fits(row.dataset[one.name], one))
    && words.every((word) => row.textContent.toLowerCase().includes(word));
}

function button(...content) {
  const made = document.createElement("button");
  made.type = "button";
  made.append(...content);
  return made;
}

function enhance(table, filters) {
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);
  const inFile = Array.from(body.rows);
  const more = button();
  let rows = inFile;
  let limit = Number(filters.dataset.first);

  function refresh() {
    const kept = wish(filters);
    let count = 0;
    for (const row of rows) {
      const wanted = kept(row);
      row.hidden = !wanted || count >= limit;
      count += wanted;
    }
    more.hidden = count <= limit;
    more.textContent = `Show all ${count}`;
    filters.querySelector("output").textContent = `${count} of ${rows.length} ${filters.dataset.what}`;
  }

  function sort(head) {
    // shares and areas are best when large: columns of numbers begin with those, but for the rank
    const first = head.classList.contains("number") && head.cellIndex > 0 ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const direction = head.getAttribute("aria-sort") === first ? second : first;
    for (const one of heads) one.setAttribute("aria-sort", one === head ? direction : "none");
    rows = sorted(inFile, head.cellIndex, direction);
    refresh();
    body.append(...rows);
  }

  for (const head of heads) {
    const made = button(...head.childNodes);
    made.addEventListener("click", () => sort(head));
    head.append(made);
    head.setAttribute("aria-sort", "none");
  }
  more.addEventListener("click", () => {
    limit = Infinity;
    refresh();
  });
  more.className = "more";
  table.parentElement.after(more);
  filters.addEventListener("input", refresh);
  filters.hidden = false;
  refresh();
  table.classList.add("ready");
}

for (const filters of document.querySelectorAll("[data-filters]")) {
  enhance(document.getElementById(filters.dataset.filters), filters);
}
