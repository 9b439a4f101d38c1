/** The Play page: what the reader chooses goes to worker.js as a question, and its answer is shown. */

import { SIDE, drawingPad, mosaic, paint } from "./canvas.js";
import { argmax } from "./network.js";
import { axes, staircase } from "./staircase.js";

const settings = await (await fetch(new URL("digits.json", import.meta.url))).json();
const digits = settings.digits.map((text) => Float32Array.from(atob(text), (byte) => byte.charCodeAt() / 255));
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });

const app = document.getElementById("play-app");
const element = (selector) => app.querySelector(selector);
const form = element("form");
const fields = form.elements;

let image = digits[8];
let thresholds; // exact; the sliders show them rounded
let [id, seed] = [0, 1]; // of the latest question, of its draws
let [speaking, spoken] = [0, -Infinity];

function ask() {
  const once = fields.attack.value === "FGSM";
  const attack = {
    epsilon: fields.epsilon.valueAsNumber,
    size: once ? fields.epsilon.valueAsNumber : settings.bim.step_size,
    steps: once ? 1 : fields.steps.valueAsNumber,
    knows: fields.knows.checked && fields.redraws.checked,
  };
  worker.postMessage({
    id: ++id,
    image,
    network: fields.network.value,
    attack: fields.attack.value === "none" ? null : attack,
    thresholds,
    ranges: settings.ranges,
    seed,
    draws: fields.redraws.checked ? settings.draws : 0,
  });
  app.dataset.state = "working";
}

worker.onmessage = ({ data }) => {
  if (data.received) {
    const megabytes = (data.received / 1e6).toFixed(1);
    const whole = data.total ? ` of ${(data.total / 1e6).toFixed(1)}` : "";
    element(".loading").textContent = `Loading the network: ${megabytes}${whole} MB`;
  } else if (data.id === id) {
    app.dataset.state = data.error ? "failed" : data.done ? "ready" : "working";
    element(".loading").textContent = "";
    element(".failed").textContent = data.error ? `The network could not be loaded: ${data.error}.` : "";
    if (!data.error) show(data);
    if (data.done && keeps()) setTimeout(again, 300);
  }
};
worker.onerror = () => worker.onmessage({ data: { id, error: "its worker does not start" } });

function show({ clean, attacked, draws, done }) {
  const here = argmax(clean.odds);
  element(".page").classList.toggle("unattacked", fields.attack.value === "none");
  element(".page").classList.toggle("unredrawn", !draws.length);
  const looks = { clean, attacked, ...(draws.length && { redrawn: draws[0] }) };
  for (const [name, look] of Object.entries(looks)) {
    paint(element(`.${name} canvas`), look.image);
    bars(name, look.odds, here, (p) => p.toFixed(2));
  }
  const epsilon = fields.attack.value === "none" ? 0 : fields.epsilon.valueAsNumber;
  staircase(element("svg"), thresholds, settings.ranges, epsilon, attacked.image, draws[0]?.image);
  if (!done) return;

  const answers = draws.map(({ odds }) => argmax(odds));
  const votes = digits.map((_, digit) => answers.filter((answer) => answer === digit).length);
  if (draws.length) {
    const colour = getComputedStyle(app).getPropertyValue("--wrong");
    mosaic(element(".draws canvas"), draws.map((draw) => draw.image), answers.map((answer) => answer !== here), colour);
    bars("draws", votes.map((n) => n / draws.length), here, (share) => Math.round(share * draws.length));
  }
  const named = ({ odds }) => `${argmax(odds)} (${Math.max(...odds).toFixed(2)})`;
  const knowing = fields.knows.checked && draws.length ? ", which knows the redraw," : "";
  const parts = [`The network says ${named(clean)}.`];
  if (epsilon) parts.push(`Attacked by ${fields.attack.value}${knowing} with ε = ${epsilon.toFixed(2)}: ${named(attacked)}.`);
  if (draws.length) parts.push(`Redrawn: ${argmax(votes)} in ${Math.max(...votes)} of ${draws.length} draws.`);
  say(parts.join(" "));
}

/** At most once a second, so that a screen reader can follow. */
function say(text) {
  clearTimeout(speaking);
  const speak = () => {
    element(".says").textContent = text;
    spoken = performance.now();
  };
  speaking = setTimeout(speak, spoken + 1000 - performance.now());
}

function bars(name, shares, here, format) {
  for (const [digit, row] of [...element(`.${name} ol`).children].entries()) {
    row.style.setProperty("--share", shares[digit]);
    row.classList.toggle("first", digit === argmax(shares));
    row.classList.toggle("wrong", digit === argmax(shares) && digit !== here);
    row.lastChild.textContent = format(shares[digit]);
  }
}

function again() {
  seed++;
  ask();
}

/** Whether to draw on and on; a box that has no effect is disabled, not cleared. */
function keeps() {
  return fields.keep.checked && !fields.keep.disabled;
}

/** Make outputs and what can be changed follow from the choices, then ask. */
function follow() {
  for (const [name, places] of Object.entries({ epsilon: 2, steps: 0, lower: 3, upper: 3 })) {
    fields[name].previousElementSibling.textContent = fields[name].valueAsNumber.toFixed(places);
  }
  const [attacked, redrawn] = [fields.attack.value !== "none", fields.redraws.checked];
  const enabled = { epsilon: attacked, steps: fields.attack.value === "BIM", knows: attacked && redrawn };
  for (const name of ["lower", "upper", "again", "keep"]) enabled[name] = redrawn;
  for (const [name, on] of Object.entries(enabled)) fields[name].disabled = !on;
  element(".says").setAttribute("aria-live", keeps() ? "off" : "polite");
  ask();
}

function reset() {
  thresholds = settings.thresholds;
  const { epsilon, steps } = settings.bim;
  const values = { network: "undefended", attack: "BIM", epsilon, steps, lower: thresholds[0], upper: thresholds[1] };
  for (const [name, value] of Object.entries(values)) fields[name].value = value;
  fields.redraws.checked = true;
  fields.knows.checked = fields.keep.checked = false;
  follow();
}

form.addEventListener("input", ({ target }) => {
  const { lower, upper } = fields;
  if (target === lower || target === upper) {
    if (lower.valueAsNumber > upper.valueAsNumber) (target === lower ? upper : lower).value = target.value;
    thresholds = [lower.valueAsNumber, upper.valueAsNumber];
  }
  follow();
});
form.addEventListener("reset", (event) => {
  event.preventDefault();
  reset();
});
form.addEventListener("submit", (event) => event.preventDefault());
fields.again.addEventListener("click", again);
element(".retry").addEventListener("click", ask);

/* The digits to choose from, and the pad. */

function choose(button, pixels, drawing = false) {
  for (const other of button.parentElement.children) other.setAttribute("aria-pressed", other === button);
  element(".pad").hidden = !drawing;
  image = pixels;
  ask();
}

const setPad = drawingPad(element(".pad canvas"), (pixels) => {
  image = pixels;
  ask();
});
const clear = () => {
  image = new Float32Array(SIDE * SIDE);
  setPad(image);
  ask();
};
element(".clear").addEventListener("click", clear);

for (const [digit, pixels] of digits.entries()) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  const thumbnail = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  paint(thumbnail, pixels);
  button.append(thumbnail);
  button.setAttribute("aria-label", `Digit ${digit}`);
  button.setAttribute("aria-pressed", image === pixels);
  button.addEventListener("click", () => choose(button, pixels));
  element(".choice").append(button);
}
const draw = Object.assign(document.createElement("button"), { type: "button", textContent: "Draw", className: "draw" });
draw.setAttribute("aria-pressed", false);
draw.addEventListener("click", () => {
  setPad(image); // a digit to change, or to clear
  choose(draw, image, true);
  element(".pad canvas").focus();
});
element(".choice").append(draw);

for (const name of ["clean", "attacked", "redrawn", "draws"]) {
  const list = document.createElement("ol");
  for (const digit of digits.keys()) {
    const row = document.createElement("li");
    row.append(...[digit, "", ""].map((text) => Object.assign(document.createElement("span"), { textContent: text })));
    list.append(row);
  }
  element(`.${name}`).append(list);
}
element(".draws h2").textContent = `${settings.draws} draws`;
axes(element("svg"));
app.hidden = false;
reset();
