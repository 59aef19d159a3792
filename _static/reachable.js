// The theme lets the keyboard reach a block of code that can be scrolled, once it knows its width: when the page is loaded
// and when the window changes. What a tab or a fold hides has no width until it is shown, and so we say that it changed.
for (const kind of ["change", "toggle"]) {
  document.addEventListener(kind, () => window.dispatchEvent(new Event("resize")), { capture: true });
}
