"use strict";
// Draws a figure from the table in it, which is all that it knows: a line a column, or an attack a row.

const ON_TAU = [8, 3];
const DASHES = [[], [8, 4], [2, 3], [8, 3, 2, 3]];
const drawn = new Map();

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = (text) => (text === undefined ? null : Number(text));

function cellsOf(row) {
  return Array.from(row.cells).filter((cell) => cell.tagName === "TD" && !cell.hasAttribute("data-not-drawn"));
}

/** Rows of a table: where they stand on the axis below, and the estimate of each line there. */
function read(table) {
  return Array.from(table.tBodies[0].rows, (row) => ({
    x: Number(row.dataset.x),
    estimates: cellsOf(row).map(({ dataset }) => ({
      value: number(dataset.value), low: number(dataset.low), high: number(dataset.high),
    })),
  }));
}

function axes(splits, values) {
  const common = { stroke: colour("--quiet"), grid: { stroke: colour("--rule"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return [
    { ...common, splits: () => splits, filter: (_, found) => found, values: (_, found) => found.map(values), size: 28, space: 0 },
    { ...common, splits: () => [0, 0.25, 0.5, 0.75, 1], values: (_, found) => found.map((one) => (one === 0 || one === 1 ? String(one) : String(one).slice(1))), size: 40 },
  ];
}

function options(place, splits, values, rest) {
  return {
    width: place.clientWidth, height: place.clientHeight, legend: { show: false }, padding: [8, 12, 0, 0],
    axes: axes(splits, values), ...rest,
  };
}

const lineColour = (line) => `--line-${line % DASHES.length + 1}`;
const translucent = (name) => `color-mix(in srgb, ${colour(name)} 16%, transparent)`;

/** Every second budget where they would overlap. */
function thinned(budgets, width) {
  const step = Math.ceil(budgets.length / Math.max(2, Math.floor(width / 46)));
  return budgets.filter((_, place) => (budgets.length - 1 - place) % step === 0);
}

/** RS(0): one level for all lines of a defense, or one each. */
function cleanLines(estimates) {
  const named = estimates.map((one, line) => ({ ...one, name: lineColour(line) }));
  return new Set(estimates.map((one) => one.value)).size === 1 ? [{ ...named[0], name: "--quiet" }] : named;
}

function curves(figure, place) {
  const table = figure.querySelector("table");
  const all = read(table);
  const rows = all.filter((row) => row.x > 0);
  const budgets = rows.map((row) => row.x);
  const clean = cleanLines(all.find((row) => row.x === 0).estimates);
  const series = [{}];
  const data = [budgets];
  const bands = [];
  for (const { name, value } of clean) {
    data.push(budgets.map(() => value));
    series.push({ stroke: colour(name), dash: [3, 4], width: 1.5, points: { show: false } });
  }
  rows[0].estimates.forEach((_, line) => {
    const name = lineColour(line);
    const first = data.length;
    for (const part of ["value", "low", "high"]) data.push(rows.map((row) => row.estimates[line][part]));
    series.push({ stroke: colour(name), width: 2, dash: DASHES[line % DASHES.length], points: { show: true, size: 6, fill: colour(name) } });
    series.push({ points: { show: false } }, { points: { show: false } });
    bands.push({ series: [first + 2, first + 1], fill: translucent(name) });
  });
  const ends = [budgets[0] / 1.12, budgets[budgets.length - 1] * 1.12];
  const readout = figure.querySelector(".readout");
  return new uPlot(options(place, thinned(budgets, place.clientWidth), (one) => String(one), {
    scales: { x: { time: false, distr: 3, range: () => ends }, y: { range: () => [-0.02, 1.04] } },
    series, bands,
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 8 } },
    hooks: {
      setCursor: [(plot) => { readout.textContent = told(table, plot.cursor.idx); }],
      draw: [(plot) => { drawClean(plot, clean); if (rows.length === 1) drawBeside(plot, rows[0]); }],
    },
  }), data, place);
}

/** What the table says at a budget; the first row is that of no budget. */
function told(table, place) {
  if (place === null || place === undefined) return "";
  const heads = Array.from(table.tHead.rows[0].cells, (cell) => cell.textContent);
  const cells = Array.from(table.tBodies[0].rows[place + 1].cells, (cell) => cell.textContent);
  const lines = cells.slice(1).map((text, line) => `${heads[line + 1]} ${text}`);
  return `${heads[0]} ${cells[0]}: ${lines.join("; ")}`;
}

function points(figure, place) {
  const rows = read(figure.querySelector("table"))
    .map((row, at) => ({ x: row.x, label: String(at + 1), ...row.estimates[row.estimates.length - 1] }))
    .sort((a, b) => a.x - b.x);
  const tau = number(figure.dataset.tau);
  const farthest = Math.max(...rows.map((row) => row.x), tau === null ? 0 : tau, 0.01);
  const splits = [0, 0.01, 0.1, 1, 10, 100].filter((one) => one <= farthest * 1.3);
  return new uPlot(options(place, splits, (one) => String(one), {
    scales: { x: { time: false, distr: 4, asinh: 0.01, range: () => [-0.002, farthest * 1.3] }, y: { range: () => [-0.04, 1.08] } },
    series: [{}, { stroke: colour("--line-1"), paths: () => null, points: { show: true, size: 8, fill: colour("--line-1") } }],
    cursor: { show: false },
    hooks: { draw: [(plot) => { drawLimit(plot, tau); drawWhiskers(plot, rows); }] },
  }), [rows.map((row) => row.x), rows.map((row) => row.value)], place);
}

function stroke(plot, name, dash, from, to) {
  const { ctx } = plot;
  ctx.save();
  ctx.strokeStyle = colour(name);
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.setLineDash(dash.map((one) => one * devicePixelRatio));
  ctx.beginPath();
  ctx.moveTo(...from);
  ctx.lineTo(...to);
  ctx.stroke();
  ctx.restore();
}

function drawLimit(plot, tau) {
  if (tau === null) return;
  const x = plot.valToPos(tau, "x", true);
  stroke(plot, "--warn", ON_TAU, [x, plot.bbox.top], [x, plot.bbox.top + plot.bbox.height]);
}

/** The interval of an estimate, which a band over one budget cannot show. */
function whisker(plot, name, x, { low, high }) {
  if (low === null) return;
  stroke(plot, name, [], [x, plot.valToPos(low, "y", true)], [x, plot.valToPos(high, "y", true)]);
}

/** At the left end, where no line of a budget is yet. */
function drawClean(plot, clean) {
  clean.forEach((one, line) => whisker(plot, one.name, plot.bbox.left + (2 + 3 * line) * devicePixelRatio, one));
}

function drawBeside(plot, row) {
  row.estimates.forEach((one, line) => {
    whisker(plot, lineColour(line), plot.valToPos(row.x, "x", true) + 3 * line * devicePixelRatio, one);
  });
}

function drawWhiskers(plot, rows) {
  const { ctx } = plot;
  rows.forEach((row, place) => {
    const x = plot.valToPos(row.x, "x", true);
    whisker(plot, "--line-1", x, row);
    ctx.save();
    ctx.fillStyle = colour("--ink");
    ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
    // to the left and to the right in turn, for attacks that fall together
    const aside = place % 2 && x - plot.bbox.left > 20 * devicePixelRatio ? -14 : 7;
    ctx.fillText(row.label, x + aside * devicePixelRatio, plot.valToPos(row.value, "y", true) + 4 * devicePixelRatio);
    ctx.restore();
  });
}

/** Draws a figure, again if it is drawn already. */
function draw(figure) {
  const place = figure.querySelector(".plot");
  if (drawn.has(figure)) drawn.get(figure).destroy();
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", `${figure.dataset.label}; its numbers are in the table of this figure`);
  place.classList.add("drawn");
  drawn.set(figure, (figure.dataset.plot === "points" ? points : curves)(figure, place));
}

function redraw() {
  for (const figure of drawn.keys()) if (figure.isConnected) draw(figure);
}

for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", redraw);
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== width) redraw();
  width = innerWidth;
});
