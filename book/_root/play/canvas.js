/** Images on canvases: shown, or drawn by the reader. */

export const SIDE = 28;

export function paint(canvas, image, x = 0, y = 0) {
  const picture = new ImageData(SIDE, SIDE);
  image.forEach((value, i) => picture.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i));
  canvas.getContext("2d").putImageData(picture, x, y);
}

/** Many images in a square, some of them framed in a colour. */
export function mosaic(canvas, images, framed, colour) {
  const [columns, tile] = [Math.ceil(Math.sqrt(images.length)), SIDE + 2];
  canvas.width = canvas.height = columns * tile;
  const context = canvas.getContext("2d");
  context.fillStyle = colour;
  for (const [i, image] of images.entries()) {
    const [x, y] = [(i % columns) * tile, Math.floor(i / columns) * tile];
    if (framed[i]) context.fillRect(x, y, tile, tile);
    paint(canvas, image, x + 1, y + 1);
  }
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** A pad to draw on, with a pointer or with the keyboard; `changed` gets every new image. Returns how to set one. */
export function drawingPad(canvas, changed) {
  let image = new Float32Array(SIDE * SIDE);
  let [x, y] = [SIDE / 2, SIDE / 2]; // the pen, in pixels; the middle of the first pixel is at 0
  let cursor = false;

  function show() {
    paint(canvas, image);
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
        return Math.max(value, Math.min(1, 1.7 - distance));
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
