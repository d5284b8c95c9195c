"use strict";
// Two entries side by side, chosen by the part of the address behind #: a=KEY&b=KEY.
// Each entry comes as a script, because a page that was opened from a folder can load nothing else.

const chooser = document.querySelector("[data-folder]");
const selects = Array.from(chooser.querySelectorAll("select"));
const place = document.getElementById("comparison");
const state = document.getElementById("state");
const entries = new Map();

/** Called by the script of an entry. */
function received(entry) {
  entries.set(entry.key, entry);
}

function load(key) {
  if (entries.has(key)) return Promise.resolve(entries.get(key));
  return new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = `${chooser.dataset.folder}${encodeURIComponent(key)}.js`;
    script.addEventListener("load", () => done(entries.get(key)));
    script.addEventListener("error", () => failed(new Error(`cannot load ${key}`)));
    document.head.append(script);
  });
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const isolated = (text) => element("bdi", {}, text);
const words = (name) => name.replaceAll("_", " ");

function estimate(one) {
  const cell = element("td", { class: "number" }, one ? one.text : "-");
  for (const part of ["value", "low", "high"]) if (one && one[part] !== undefined) cell.dataset[part] = one[part];
  return cell;
}

function table(caption, heads, rows) {
  const head = element("tr", {}, ...heads.map(([text, kind]) => element("th", { scope: "col", class: kind }, isolated(text))));
  return element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
    element("table", {}, element("caption", { class: "hidden" }, caption), element("thead", {}, head), element("tbody", {}, ...rows)));
}

const names = (pair) => pair.map((one, place) => [`${"AB"[place]}: ${one.title}`, "number"]);
const union = (...lists) => Array.from(new Set(lists.flat()));

function scores(pair) {
  const known = union(...pair.map((one) => Object.keys(one.scores)));
  const rows = known.map((name) => element("tr", {}, element("th", { scope: "row" }, name), ...pair.map((one) => estimate(one.scores[name]))));
  return [element("h2", {}, "Scores"), table("Scores of both", [["Score", ""], ...names(pair)], rows)];
}

function differences([a, b]) {
  const found = a.differences[b.key] || [];
  const head = element("h2", {}, "Paired differences");
  if (!found.length) {
    return [head, element("p", {}, "The board has none of these two: they were not measured alike (model, precision, protocol, examples), or another entry of the same name was. Their intervals above do not say whether they differ.")];
  }
  const rows = found.map((one) => element("tr", {}, element("th", { scope: "row" }, isolated(one.task)), element("td", {}, one.threat), estimate(one.area), element("td", { class: "number" }, one.p)));
  return [head,
    element("p", {}, "Area of A less that of B on the same resamples of examples; above 0, A holds better. p is two-sided, by Holm over all rows."),
    table("Paired differences", [["Task", ""], ["Threat model", ""], ["A - B", "number"], ["p", "number"]], rows)];
}

function byTask(pair) {
  const tasks = union(...pair.map((one) => Object.keys(one.tasks)));
  const of = (one, task) => (one.tasks[task] ? one.tasks[task].scores : {});
  const rows = tasks.flatMap((task) => [
    element("tr", {}, element("th", { scope: "rowgroup", colspan: "3", class: "group" }, isolated(task))),
    ...union(...pair.map((one) => Object.keys(of(one, task)))).map((name) =>
      element("tr", {}, element("th", { scope: "row" }, name), ...pair.map((one) => estimate(of(one, task)[name])))),
  ]);
  return [element("h2", {}, "By task"), table("Both by task", [["Score", ""], ...names(pair)], rows)];
}

function figure(pair, task, threat) {
  const both = pair.map((one) => one.tasks[task] && one.tasks[task].curves[threat]);
  const points = both.map((one) => new Map(one ? one.points : []));
  const budgets = union(...points.map((one) => Array.from(one.keys()))).sort((x, y) => x - y);
  const rows = budgets.map((budget) => element("tr", { "data-x": budget }, element("th", { scope: "row", class: "number" }, String(budget)), ...points.map((one) => estimate(one.get(budget)))));
  const label = `RS of ${task} under ${words(threat)}, over the budget`;
  return element("figure", { "data-plot": "curves", "data-label": label },
    element("figcaption", {}, isolated(task)), element("div", { class: "plot" }), element("p", { class: "readout", "aria-hidden": "true" }),
    element("details", {}, element("summary", {}, "Data"), table(label, [[both.find(Boolean).budget, "number"], ...names(pair)], rows)));
}

function legend(pair) {
  return element("ul", { class: "keys", "aria-hidden": "true" }, ...pair.map((one, line) => {
    const key = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    key.setAttribute("viewBox", "0 0 34 10");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", `line-${line + 1}`);
    path.setAttribute("d", "M0 5H34");
    key.append(path);
    return element("li", {}, key, isolated(`${"AB"[line]}: ${one.title}`));
  }), element("li", {}, "dashed and level: RS(0) of each"));
}

/** As even rows as there can be, at most four panels in each. */
const across = (panels) => Math.ceil(panels / Math.ceil(panels / 4));

function curvesOf(pair) {
  const tasks = union(...pair.map((one) => Object.keys(one.tasks)));
  const has = (one, task, threat) => Boolean(one.tasks[task] && one.tasks[task].curves[threat]);
  const threats = union(...pair.flatMap((one) => Object.values(one.tasks).map((task) => Object.keys(task.curves))));
  return [element("h2", {}, "Robust suppression over the budget"), legend(pair), ...threats.map((threat) => {
    const drawable = tasks.filter((task) => pair.some((one) => has(one, task, threat)));
    const figures = drawable.map((task) => figure(pair, task, threat));
    return element("section", {}, element("h3", {}, words(threat)), element("div", { class: `plots across-${across(figures.length)}` }, ...figures));
  })];
}

function heading(pair) {
  return element("ul", {}, ...pair.map((one, line) => element("li", {}, `${"AB"[line]}: `,
    element("a", { href: `${chooser.dataset.entries}${encodeURIComponent(one.key)}.html` }, isolated(one.title)), " on ", isolated(one.model))));
}

async function show() {
  const chosen = new URLSearchParams(location.hash.slice(1));
  const keys = selects.map((select) => {
    select.value = chosen.get(select.name) || "";
    return select.value;
  });
  place.replaceChildren();
  state.textContent = "";
  if (keys.includes("")) {
    state.textContent = Array.from(chosen.values()).some((key) => key && !keys.includes(key))
      ? "The address names an entry that this board does not have; choose another." : "Choose two.";
    return;
  }
  try {
    const pair = await Promise.all(keys.map(load));
    place.replaceChildren(heading(pair), ...scores(pair), ...differences(pair), ...curvesOf(pair), ...byTask(pair));
    for (const one of place.querySelectorAll("figure")) draw(one);
  } catch (error) {
    state.textContent = `${error.message}; build the site again.`;
  }
}

chooser.addEventListener("change", () => {
  location.hash = new URLSearchParams(selects.map((select) => [select.name, select.value])).toString();
});
addEventListener("hashchange", show);
chooser.hidden = false;
show();
