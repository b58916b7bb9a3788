// Takes over the light or dark that the person chose in the console; without a choice the system decides.
"use strict";
try {
  const chosen = JSON.parse(localStorage.getItem("adminTheme") || '"auto"');
  if (chosen === "dark" || chosen === "light") document.documentElement.classList.add(chosen);
} catch {
  // Storage may be forbidden: the system's choice stands.
}
