/** The staircase: into which range each pixel value is redrawn, and where an image's pixels lie on it. */

const [across, up] = [(x) => 40 + 270 * x, (y) => 214 - 204 * y];

function node(name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return Object.assign(element, { textContent: text });
}

export function axes(svg) {
  const parts = [node("path", { d: `M${across(0)} ${up(1)}V${up(0)}H${across(1)}` })];
  for (const value of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
    parts.push(
      node("path", { d: `M${across(value)} ${up(0)}v4M${across(0)} ${up(value)}h-4` }),
      node("text", { x: across(value), y: up(0) + 16, "text-anchor": "middle" }, value),
      node("text", { x: across(0) - 7, y: up(value) + 4, "text-anchor": "end" }, value),
    );
  }
  svg.querySelector(".axes").append(...parts);
  svg.querySelector(".identity").setAttribute("d", `M${across(0)} ${up(0)}L${across(1)} ${up(1)}`);
}

/** `before` and `after` are an image and a redraw of it; `epsilon` is how far an attack may lift a black pixel. */
export function staircase(svg, thresholds, ranges, epsilon, before = [], after = []) {
  const edges = [0, ...thresholds, 1].map(across);
  const steps = ranges.map(([low, high], i) =>
    node("rect", { x: edges[i], width: edges[i + 1] - edges[i], y: up(high), height: up(low) - up(high) }),
  );
  const dots = Array.from(after, (y, i) => `M${across(before[i]).toFixed(1)} ${up(y).toFixed(1)}h0`);
  svg.querySelector(".steps").replaceChildren(...steps);
  svg.querySelector(".dots").setAttribute("d", dots.join(""));
  svg.querySelector(".reach").setAttribute("d", `M${across(0)} ${up(0)}H${across(epsilon)}`);
  const label = svg.querySelector(".epsilon");
  label.setAttribute("x", Math.min(across(epsilon) + 5, across(1)));
  label.setAttribute("y", up(0) - 6);
  label.style.visibility = epsilon ? "visible" : "hidden";
  const [dark, middle, light] = ranges.map((range) => `[${range.join(", ")}]`);
  const [lower, upper] = thresholds.map((threshold) => threshold.toFixed(3));
  svg.querySelector("title").textContent =
    `Pixels up to ${lower} are redrawn in ${dark}, then up to ${upper} in ${middle}, and above that in ${light}. ` +
    `The attack can lift a black pixel to ${Number(epsilon.toFixed(3))}.`;
}
