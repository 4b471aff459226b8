// Before anything is drawn: the colours that the reader chose, so that a dark page does not begin with a flash.
try {
  document.documentElement.dataset.theme = localStorage.getItem("llmos.theme") ?? "auto";
} catch {
  // A browser that keeps nothing: the system's colours.
}
