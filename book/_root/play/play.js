/** The Play page: its state goes to worker.js as a question, and the answer is shown. */

import { fit, paint } from "./canvas.js";
import { drawingPad } from "./pad.js";
import { axes } from "./staircase.js";
import { fromHash, initial, moved, stepOf, storied, toHash, toImage, toText } from "./state.js";
import { node, prepare, show } from "./view.js";

const settings = await (await fetch(new URL("settings.json", import.meta.url))).json();
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });

const app = document.getElementById("play-app");
const element = (selector) => app.querySelector(selector);
const fields = element("form").elements;

let state = initial(settings, Object.keys(settings.datasets)[0]);
let dataset; // the settings of the one that is shown
let id = 0; // of the latest question
let [speaking, spoken] = [0, -Infinity];
let writing = 0;

const pixels = () => (state.drawing ? toImage(state.drawing) : dataset.pixels[state.image]);
/** Whether to draw on and on; a box that has no effect is disabled, not cleared. */
const keeps = () => fields.keep.checked && !fields.keep.disabled;

/* Question and answer. */

function ask() {
  const { epsilon, steps } = state;
  const once = state.attack === "FGSM";
  const knowing = state.knows && state.redraws ? settings.knowing : { draws: 0 };
  const size = once ? epsilon : knowing.draws ? knowing.step_share * epsilon : dataset.step_size;
  const attack = { epsilon, size, steps: once ? 1 : steps, draws: knowing.draws };
  worker.postMessage({
    id: ++id,
    dataset: state.dataset,
    network: state.network,
    image: pixels(),
    size: dataset.size,
    attack: state.attack === "none" ? null : attack,
    thresholds: [state.lower, state.upper],
    ranges: settings.ranges,
    seed: state.seed,
    draws: state.redraws ? settings.draws : 0,
  });
  app.dataset.state = "working";
  element("progress").removeAttribute("value");
}

worker.onmessage = ({ data }) => {
  if (data.loading) {
    if (data.loading !== `${state.dataset}-${state.network}`) return;
    const megabytes = [data.received, data.total].filter(Boolean).map((bytes) => (bytes / 1e6).toFixed(1));
    element(".loading").textContent = `Loading the network: ${megabytes.join(" of ")} MB`;
    if (data.total) progress(data.received, data.total);
  } else if (data.id !== id) return;
  else if (data.error) fail(`The network could not be loaded: ${data.error}.`);
  else if (data.shown) answered(data);
  else progress(data.step, data.steps);
};
worker.onerror = () => fail("The network could not be loaded: its worker does not start.");

function answered(answer) {
  app.dataset.state = answer.done ? "ready" : "working";
  element(".loading").textContent = element(".failed").textContent = "";
  const given = { ...dataset, thresholds: [state.lower, state.upper], ranges: settings.ranges };
  const sentence = show(app, state, stepOf(state, settings), given, answer);
  if (sentence) say(sentence);
  if (answer.done && keeps()) setTimeout(again, 300);
}

function fail(sentence) {
  app.dataset.state = "failed";
  element(".loading").textContent = "";
  element(".failed").textContent = sentence;
}

function progress(done, whole) {
  Object.assign(element("progress"), { value: done, max: whole });
}

/** At most once a second, so that a screen reader can follow. */
function say(text) {
  clearTimeout(speaking);
  element(".says").setAttribute("aria-busy", true);
  const speak = () => {
    element(".says").setAttribute("aria-busy", false);
    element(".says").textContent = text;
    spoken = performance.now();
  };
  speaking = setTimeout(speak, spoken + 1000 - performance.now());
}

/* The state, and the controls and the address that follow it. */

function change(part) {
  state = { ...state, ...part };
  follow();
}

function again() {
  change({ seed: state.seed + 1 });
}

function follow() {
  if (settings.datasets[state.dataset] !== dataset) enter();
  for (const [key, places] of Object.entries({ epsilon: dataset.slider.places, steps: 0, lower: 3, upper: 3 })) {
    fields[key].value = state[key];
    fields[key].previousElementSibling.textContent = state[key].toFixed(places);
  }
  for (const key of ["dataset", "network", "attack"]) fields[key].value = state[key];
  for (const key of ["redraws", "knows", "tint"]) fields[key].checked = state[key];

  const attacked = state.attack !== "none";
  const enabled = { epsilon: attacked, steps: state.attack === "BIM", knows: attacked && state.redraws, tint: attacked };
  for (const key of ["lower", "upper", "again", "keep"]) enabled[key] = state.redraws;
  for (const [key, on] of Object.entries(enabled)) fields[key].disabled = !on;
  element(".says").setAttribute("aria-live", keeps() ? "off" : "polite");

  const step = stepOf(state, settings);
  for (const button of app.querySelectorAll(".story button")) {
    button.setAttribute("aria-pressed", button.dataset.step === step);
  }
  for (const [i, button] of [...element(".choice").children].entries()) {
    const drawn = button.className === "draw";
    button.setAttribute("aria-pressed", state.drawing ? drawn : i === state.image);
  }
  element(".pad").hidden = !state.drawing;
  clearTimeout(writing);
  writing = setTimeout(writeAddress, 300); // browsers refuse many in a row
  ask();
}

function writeAddress() {
  const hash = toHash(state, settings);
  const { pathname, search } = location;
  if (hash !== location.hash.slice(1) && !keeps()) history.replaceState(history.state, "", hash ? `#${hash}` : pathname + search);
}

/** Take the state from the address, if it holds one: what has no = is a place on the page. */
function readAddress() {
  if (!location.hash.includes("=")) return follow();
  try {
    state = fromHash(location.hash.slice(1), settings);
    element(".refused").textContent = "";
  } catch (error) {
    element(".refused").textContent = error.message;
  }
  follow();
  if (state.drawing) setPad(pixels());
}
addEventListener("hashchange", () => location.hash.includes("=") && readAddress());

app.addEventListener("input", ({ target: { name, type, value, checked, valueAsNumber } }) => {
  if (name === "keep") return follow();
  if (name === "dataset") return change(moved(state, settings, value));
  const chosen = { checkbox: checked, range: valueAsNumber, radio: value }[type];
  const pushed = name === "lower" && chosen > state.upper ? "upper" : name === "upper" && chosen < state.lower ? "lower" : name;
  change({ [name]: chosen, [pushed]: chosen });
});
element("form").addEventListener("reset", (event) => {
  event.preventDefault();
  fields.keep.checked = false;
  change(initial(settings, state.dataset));
});
element("form").addEventListener("submit", (event) => event.preventDefault());
fields.again.addEventListener("click", again);
element(".retry").addEventListener("click", ask);
element(".copy").addEventListener("click", async () => {
  writeAddress();
  const copied = navigator.clipboard?.writeText(location.href) ?? Promise.reject();
  const text = await copied.then(() => "Copied.", () => "The link is in the address bar.");
  element(".copied").textContent = text;
});
for (const button of app.querySelectorAll(".story button")) {
  button.addEventListener("click", () => {
    const { image, drawing } = state;
    change({ ...storied(settings, state.dataset, button.dataset.step), image, drawing });
  });
}

/* The images to choose from, and the pad. */

const setPad = drawingPad(element(".pad canvas"), (image) => change({ drawing: toText(image) }));
element(".clear").addEventListener("click", () => {
  const image = pixels().fill(0);
  setPad(image);
  change({ drawing: toText(image) });
});

/** Make the page that of the state's dataset. */
function enter() {
  dataset = settings.datasets[state.dataset];
  dataset.pixels ??= dataset.images.map(toImage);
  const buttons = dataset.pixels.map((image, i) => {
    const thumbnail = node("canvas");
    fit(thumbnail, dataset.size);
    paint(thumbnail, image, dataset.size);
    const button = node("button", { type: "button" }, thumbnail);
    button.setAttribute("aria-label", `${dataset.kind} ${dataset.classes[i]}`);
    button.addEventListener("click", () => change({ image: i, drawing: "" }));
    return button;
  });
  const draw = node("button", { type: "button", textContent: "Draw", className: "draw" });
  draw.addEventListener("click", () => {
    setPad(pixels()); // a digit to change, or to clear
    change({ drawing: toText(pixels()) });
    element(".pad canvas").focus();
  });
  element(".choice").replaceChildren(...buttons, ...(dataset.channels === 1 ? [draw] : []));
  const { max, step } = dataset.slider;
  Object.assign(fields.epsilon, { max, step });
  element(".page").classList.toggle("named", dataset.channels > 1);
  prepare(app, dataset.classes);
}

axes(element("svg"));
app.hidden = false;
readAddress();
