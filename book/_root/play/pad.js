/** A pad of 28×28 pixels to draw a digit on, with a pointer or with the keyboard. */

import { paint } from "./canvas.js";

const SIDE = 28;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** `changed` gets every new image, in whole 255ths as an address holds them. Returns how to set one. */
export function drawingPad(canvas, changed) {
  let image = new Float32Array(SIDE * SIDE);
  let [x, y] = [SIDE / 2, SIDE / 2]; // the pen, in pixels; the middle of the first pixel is at 0
  let cursor = false;

  function show() {
    paint(canvas, image, SIDE);
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(canvas).getPropertyValue("--wrong");
    if (cursor) context.fillRect(x, y, 1, 1);
  }

  /** A soft stroke from the pen to another place, about as wide as MNIST's. */
  function stroke(toX, toY) {
    const steps = Math.ceil(2 * Math.hypot(toX - x, toY - y)) + 1;
    for (let step = 1; step <= steps; step++) {
      const [penX, penY] = [x + ((toX - x) * step) / steps, y + ((toY - y) * step) / steps];
      image = image.map((value, i) => {
        const distance = Math.hypot((i % SIDE) - penX, Math.floor(i / SIDE) - penY);
        return Math.max(value, Math.round(255 * Math.min(1, 1.7 - distance)) / 255);
      });
    }
    [x, y] = [toX, toY];
    show();
    changed(image);
  }

  const place = ({ offsetX, offsetY }) => [offsetX, offsetY].map((at) => (at / canvas.clientWidth) * SIDE - 0.5);
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    cursor = false;
    [x, y] = place(event);
    stroke(x, y);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) stroke(...place(event));
  });
  canvas.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (!arrow && event.key !== " ") return;
    event.preventDefault();
    cursor = true;
    [x, y] = [x, y].map(Math.round);
    const [toX, toY] = [x, y].map((at, i) => Math.min(Math.max(at + (arrow?.[i] ?? 0), 0), SIDE - 1));
    if (!arrow || event.shiftKey) return stroke(toX, toY);
    [x, y] = [toX, toY];
    show();
  });
  canvas.addEventListener("blur", () => {
    cursor = false;
    show();
  });

  return (pixels) => {
    image = pixels;
    show();
  };
}
