// Before anything is drawn: the colours that were chosen here, if they are not those of the system.
(() => {
  try {
    const chosen = localStorage.getItem("qedge-colours");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.colours = chosen;
  } catch { /* no storage: as the system */ }
})();
