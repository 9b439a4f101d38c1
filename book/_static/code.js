/* The switch for a page's code; what the reader chose holds on the next page, too. */
function showCode(shown) {
  document.documentElement.dataset.code = shown ? "shown" : "hidden";
  document.querySelectorAll("details.hide.above-input").forEach((details) => (details.open = shown));
  document.querySelectorAll(".btn-code-switch").forEach((button) => button.setAttribute("aria-pressed", shown));
}

function switchCode() {
  const shown = document.documentElement.dataset.code !== "shown";
  showCode(shown);
  try {
    localStorage.setItem("code", shown ? "shown" : "hidden");
  } catch {
    /* not allowed to remember */
  }
}

document.addEventListener("DOMContentLoaded", () => {
  let kept = null;
  try {
    kept = localStorage.getItem("code");
  } catch {
    /* not allowed to remember */
  }
  showCode(kept === "shown");
});
