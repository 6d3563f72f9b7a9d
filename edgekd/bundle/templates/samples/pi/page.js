"use strict";
// Asks for the last answer and its frame. Everything is set as text: a label cannot be HTML.
const PAUSE_MS = 300;
const OLD_S = 5; // an answer of that age is shown as old: the camera may have stopped
const part = (id) => document.getElementById(id);
let shown = -1;

function show(told) {
  const answer = part("answer");
  const old = told.age_s > OLD_S;
  const unsure = told.unsure ? ` – unsure: ${told.set.join(" or ") || "none is likely"}` : "";
  answer.textContent = told.answer + unsure + (old ? ` (${told.age_s.toFixed(0)} s old)` : "");
  answer.className = old ? "old" : told.unsure ? "unsure" : "";
  const rows = Object.entries(told.scores).sort((a, b) => b[1] - a[1]).slice(0, 5);
  part("scores").replaceChildren(
    ...rows.map(([label, score]) => {
      const row = document.createElement("tr");
      for (const text of [label, `${(100 * score).toFixed(1)} %`]) {
        row.append(Object.assign(document.createElement("td"), { textContent: text }));
      }
      return row;
    }),
  );
  part("facts").textContent =
    `${told.source}, ${told.ms.toFixed(1)} ms for each answer, ` +
    `${told.frames_per_second.toFixed(1)} frames a second`;
}

async function ask() {
  try {
    const told = await (await fetch("/answer.json")).json();
    if ("frame" in told) {
      show(told);
      if (told.frame !== shown) {
        shown = told.frame;
        part("frame").src = `/frame.jpg?${shown}`;
      }
    }
  } catch (error) {
    part("answer").textContent = "the program does not answer";
    part("answer").className = "old";
  }
  setTimeout(ask, PAUSE_MS);
}

ask();
