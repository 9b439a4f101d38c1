/* The explorer: rows of numbers.js, filtered and sorted by what the page's address says. */
"use strict";

const FILTERS = {
  dataset: "dataset",
  defence: "defence",
  attack: "attack",
  case: "case",
  epochs: "epochs",
  scale: "trained on",
  agrees: "agrees with the paper",
};
const COLUMNS = {
  dataset: "dataset",
  defence: "defence",
  used: "used",
  attack: "attack",
  case: "case",
  epochs: "epochs",
  scale: "trained on",
  images: "test images",
  paper: "paper",
  ours: "ours [95% interval]",
  kept: "right before and after",
  agrees: "agrees",
};
const NAMES = ["dataset", "defence", "used", "attack", "case"];
const PAGE = 50;
const SHAPES = { 2: "circle", 5: "square", 6: "triangle", 7: "diamond" };

const all = NUMBERS.rows.map((values) => Object.fromEntries(NUMBERS.names.map((name, i) => [name, values[i]])));
const app = document.getElementById("numbers");
const find = (selector) => app.querySelector(selector);
let shown = PAGE;

function words(row, name) {
  const value = row[name];
  if (name === "agrees") return value === null ? "not judged" : value ? "yes" : "no";
  return value === null || value === "" ? "–" : String(value);
}

/* What the address says: a value for each filter, "sort" and "down". */
const state = () => new URLSearchParams(location.hash.slice(1));

function change(name, value) {
  const next = state();
  if (value) next.set(name, value);
  else next.delete(name);
  history.replaceState(null, "", `#${next}`);
  shown = PAGE;
  show();
}

function chosen() {
  const wanted = state();
  const rows = all.filter((row) =>
    Object.keys(FILTERS).every((name) => !wanted.get(name) || words(row, name) === wanted.get(name)),
  );
  const by = wanted.get("sort");
  if (!(by in COLUMNS)) return rows;
  const order = (a, b) => (a[by] === null) - (b[by] === null) || (a[by] > b[by]) - (a[by] < b[by]);
  rows.sort(order);
  return wanted.get("down") ? rows.reverse() : rows;
}

function element(name, text = "", attributes = {}, svg = false) {
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function link(row, text) {
  return row.record ? element("a", text, { href: `../records/${row.record}.html` }) : element("span", text);
}

function cell(row, name) {
  const number = ["epochs", "images", "paper", "ours", "kept"].includes(name);
  const known = row[name] !== null && row[name] !== "";
  const kind = known ? (NAMES.includes(name) ? "names" : "value") : "nothing";
  const made = element("td", "", { class: `${kind}${number ? " text-right" : ""}` });
  if (name === "case" || kind === "value") made.dataset.label = COLUMNS[name];
  if (name === "ours" && row.ours !== null) {
    const bounds = ` [${row.low.toFixed(3)}, ${row.high.toFixed(3)}]`;
    made.append(link(row, row.ours.toFixed(4)), bounds, row.seeds > 1 ? ` (${row.seeds} seeds)` : "");
  } else if ((name === "paper" || name === "kept") && row[name] !== null) made.append(row[name].toFixed(4));
  else if (number && row[name] !== null) made.append(row[name].toLocaleString("en"));
  else made.append(words(row, name));
  return made;
}

function fill(rows) {
  find("tbody").replaceChildren(
    ...rows.slice(0, shown).map((row) => {
      const line = element("tr");
      line.append(...Object.keys(COLUMNS).map((name) => cell(row, name)));
      [...line.querySelectorAll(".names")].at(-1).classList.add("last");
      return line;
    }),
  );
  find(".count").textContent = `${rows.length.toLocaleString("en")} of ${all.length.toLocaleString("en")} numbers`;
  find(".more").hidden = rows.length <= shown;
}

/* A mark at (x, y), by the paper's table; hollow for a tenth of the images. */
function dot(row) {
  const [x, y] = [40 + 360 * row.paper, 370 - 360 * row.ours];
  const shape = SHAPES[row.table];
  const kind = { class: `${row.scale === "all images" ? "full" : "hollow"} table-${row.table}` };
  const points = {
    square: [[-3, -3], [3, -3], [3, 3], [-3, 3]],
    diamond: [[0, -4.5], [4.5, 0], [0, 4.5], [-4.5, 0]],
    triangle: [[0, -4.5], [4, 3.5], [-4, 3.5]],
  }[shape];
  const mark = points
    ? element("polygon", "", { ...kind, points: points.map(([a, b]) => `${x + a},${y + b}`).join(" ") }, true)
    : element("circle", "", { ...kind, cx: x, cy: y, r: 3.5 }, true);
  const told = [row.dataset, row.defence, row.used, row.attack, row.case && `case ${row.case}`, `${row.epochs} epochs`];
  mark.append(element("title", `${told.filter(Boolean).join(", ")}: paper ${row.paper}, ours ${row.ours}`, {}, true));
  const to = element("a", "", { href: `../records/${row.record}.html`, tabindex: "-1" }, true);
  to.append(mark);
  return to;
}

function axes() {
  const made = [element("path", "", { class: "band", d: "M40 352 L40 370 L58 370 L400 28 L400 10 L382 10 Z" }, true)];
  made.push(element("path", "", { class: "axis", d: "M40 10 V370 H400 M40 370 L400 10" }, true));
  for (const share of [0, 0.5, 1]) {
    made.push(element("text", `${100 * share}%`, { x: 40 + 360 * share, y: 386, "text-anchor": "middle" }, true));
    made.push(element("text", `${100 * share}%`, { x: 36, y: 374 - 360 * share, "text-anchor": "end" }, true));
  }
  made.push(element("text", "the paper's", { x: 400, y: 398, "text-anchor": "end" }, true));
  made.push(element("text", "ours", { x: 44, y: 20 }, true));
  return made;
}

function draw(rows) {
  const title = find(".scatter title");
  find(".scatter").replaceChildren(title, ...axes(), ...rows.filter((r) => r.paper !== null && r.ours !== null).map(dot));
}

function head() {
  const [by, down] = [state().get("sort"), state().get("down")];
  const line = element("tr");
  for (const [name, title] of Object.entries(COLUMNS)) {
    const sorted = by === name ? (down ? "descending" : "ascending") : "none";
    const made = element("th", "", { scope: "col", "aria-sort": sorted });
    const button = element("button", title, { type: "button" });
    button.addEventListener("click", () => {
      const next = state();
      next.set("sort", name);
      history.replaceState(null, "", `#${next}`);
      change("down", sorted === "ascending" ? "yes" : "");
      find(`th:nth-child(${Object.keys(COLUMNS).indexOf(name) + 1}) button`).focus();
    });
    made.append(button);
    line.append(made);
  }
  find("thead").replaceChildren(line);
}

function filters() {
  for (const [name, title] of Object.entries(FILTERS)) {
    const label = element("label", `${title} `);
    const select = element("select", "", { name });
    const values = [...new Set(all.map((row) => words(row, name)))];
    if (name === "epochs") values.sort((a, b) => a - b);
    select.append(element("option", "all", { value: "" }), ...values.map((value) => element("option", value, { value })));
    select.addEventListener("change", () => change(name, select.value));
    label.append(select);
    find(".filters").append(label);
  }
  const sort = element("label", "sorted by ", { class: "narrow" }); // where the table has no heads to click
  const by = element("select", "", { name: "sort" });
  by.append(element("option", "as published", { value: "" }));
  by.append(...Object.entries(COLUMNS).map(([value, title]) => element("option", title, { value })));
  by.addEventListener("change", () => change("sort", by.value));
  sort.append(by);
  find(".filters").append(sort);
  const reset = element("button", "Reset", { type: "button" });
  reset.addEventListener("click", () => {
    history.replaceState(null, "", "#");
    change("sort", "");
  });
  find(".filters").append(reset);
}

function show() {
  for (const select of find(".filters").querySelectorAll("select")) select.value = state().get(select.name) || "";
  const rows = chosen();
  head();
  fill(rows);
  draw(rows);
}

function download(as) {
  const rows = chosen();
  const quoted = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
  const lines = [NUMBERS.names, ...rows.map((row) => NUMBERS.names.map((name) => quoted(row[name] ?? "")))];
  const text = as === "csv" ? lines.map((line) => line.join(",")).join("\r\n") + "\r\n" : JSON.stringify(rows, null, 1);
  const address = URL.createObjectURL(new Blob([text], { type: as === "csv" ? "text/csv" : "application/json" }));
  element("a", "", { href: address, download: `numbers.${as}` }).click();
  URL.revokeObjectURL(address);
}

filters();
show();
app.classList.remove("waiting");
addEventListener("hashchange", show);
find(".more").addEventListener("click", () => {
  shown += PAGE;
  fill(chosen());
});
for (const button of app.querySelectorAll("[data-as]")) button.addEventListener("click", () => download(button.dataset.as));
