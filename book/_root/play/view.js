/** Shows what the worker has computed: pictures, what the network says of each, and the staircase. */

import { fit, mosaic, paint, paintTinted } from "./canvas.js";
import { crossings } from "./method.js";
import { argmax } from "./network.js";
import { staircase } from "./staircase.js";
import { percent, tell, votesOf } from "./story.js";

const TINT = [230, 159, 0]; // Okabe and Ito's orange, and everything else gray: no kind of colour blindness mixes them up

export function node(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** The list under each picture, a row a class; they are filled by `show`. */
export function prepare(app, names) {
  for (const name of ["clean", "attacked", "redrawn", "draws"]) {
    const rows = names.map((text) => node("li", {}, node("span", { textContent: text }), node("span")));
    app.querySelector(`.${name} ol`).replaceChildren(...rows);
  }
  app.style.setProperty("--tint", `rgb(${TINT})`);
}

/** Show an answer of the worker; returns the sentence that says what to see, once all draws are there. */
export function show(app, state, step, { size, channels, classes, thresholds, ranges }, answer) {
  const { clean, attacked, draws, done } = answer;
  const element = (selector) => app.querySelector(selector);
  const here = argmax(clean.odds);
  element(".page").classList.toggle("unattacked", state.attack === "none");
  element(".page").classList.toggle("unredrawn", !draws.length);

  const crossed = crossings(clean.image, attacked.image, thresholds, channels);
  const [n, pixels] = [crossed.filter(Boolean).length, crossed.length];
  const looks = { clean, attacked, ...(draws.length && { redrawn: draws[0] }) };
  for (const [name, look] of Object.entries(looks)) {
    const canvas = element(`.${name} canvas`);
    fit(canvas, size);
    if (name === "attacked" && state.tint) paintTinted(canvas, look.image, size, crossed, TINT);
    else paint(canvas, look.image, size);
    bars(element(`.${name} ol`), look.odds, here, percent);
  }
  const where = channels > 1 ? " in at least one colour" : "";
  element(".crossed").textContent = `${where}: ${n.toLocaleString("en")} of ${pixels.toLocaleString("en")}`;
  const epsilon = state.attack === "none" ? 0 : state.epsilon;
  staircase(element("svg"), thresholds, ranges, epsilon, attacked.image, draws[0]?.image);
  if (!draws.length) for (const name of ["redrawn", "draws"]) clear(element(`.${name}`));
  if (!done) return "";

  if (draws.length) {
    const wrong = draws.map(({ odds }) => argmax(odds) !== here);
    const frame = getComputedStyle(app).getPropertyValue("--wrong");
    mosaic(element(".draws canvas"), draws.map(({ image }) => image), size, wrong, frame);
    const shares = votesOf(draws).map((votes) => votes / draws.length);
    bars(element(".draws ol"), shares, here, (share) => Math.round(share * draws.length));
  }
  return tell(step, state, { names: classes, clean, attacked, draws, crossed: n, pixels });
}

function bars(list, shares, here, format) {
  const first = argmax(shares);
  for (const [i, row] of [...list.children].entries()) {
    row.style.setProperty("--share", shares[i]);
    row.classList.toggle("first", i === first);
    row.classList.toggle("wrong", i === first && i !== here);
    row.lastChild.textContent = format(shares[i]);
  }
}

/** Leave nothing of an earlier answer. */
function clear(part) {
  const canvas = part.querySelector("canvas");
  canvas.width = canvas.height; // as it is, but empty
  for (const row of part.querySelectorAll("li")) {
    row.style.removeProperty("--share");
    row.className = row.lastChild.textContent = "";
  }
}
