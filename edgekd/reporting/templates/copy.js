// Shows a button beside each command that copies it. Without this script, or where the browser has
// no clipboard, one click selects the whole command.
"use strict";
if (navigator.clipboard) {
  for (const box of document.querySelectorAll(".command")) {
    const button = box.querySelector("button");
    button.hidden = false;
    button.addEventListener("click", async () => {
      const told = box.querySelector("[role=status]");
      try {
        await navigator.clipboard.writeText(box.querySelector("code").textContent);
        told.textContent = "copied";
      } catch {
        told.textContent = "not allowed here: select the text";
      }
    });
  }
}
