// Sorts and filters the table of builds. The charts follow: they show the builds that the table
// shows, and the front among those. Without this script the table is sorted by accuracy.
"use strict";
const table = document.querySelector("table.sortable");
const body = table.tBodies[0];
const heads = [...table.tHead.rows[0].cells];
const rows = [...body.rows].map((row, number) => ({
  row,
  number,
  values: [...row.cells].map((cell) => cell.dataset.v),
  texts: [...row.cells].map((cell) => cell.firstElementChild.textContent.trim()),
  words: row.textContent.toLowerCase(),
}));
const search = document.querySelector("#text");
const selects = [...document.querySelectorAll("#controls select")];
const shown = document.querySelector("#shown");
const reset = document.querySelector("#reset");
const dots = [...document.querySelectorAll(".builds-chart .scatter")].map((chart) => ({
  line: chart.querySelector(".front polyline"),
  marks: [...chart.querySelectorAll("[data-row]")],
}));

let sorted = heads.find((head) => head.ariaSort) ?? heads[0];

function compare(column, numeric, direction) {
  return (a, b) => {
    const [x, y] = [a.values[column], b.values[column]];
    if (x === "" || y === "") return (x === "") - (y === ""); // unknown values come last
    const order = numeric ? x - y : x.localeCompare(y, "en", { numeric: true });
    return direction * order || a.number - b.number;
  };
}

function sortBy(head) {
  const again = sorted === head;
  const rising = again ? head.ariaSort === "descending" : !head.dataset.falling;
  sorted.removeAttribute("aria-sort");
  sorted = head;
  head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const numeric = head.dataset.kind === "number";
  const order = [...rows].sort(compare(heads.indexOf(head), numeric, rising ? 1 : -1));
  body.append(...order.map((one) => one.row));
  tell();
}

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = selects.filter((select) => select.value);
  for (const one of rows) {
    one.row.hidden = !(
      words.every((word) => one.words.includes(word)) &&
      wanted.every((select) => one.texts[select.dataset.column] === select.value)
    );
  }
  reset.hidden = !words.length && !wanted.length;
  draw();
  tell();
}

// The front among the dots that are shown: from left to right, each higher than all before it.
function frontOf(marks) {
  const circles = marks
    .filter((mark) => mark.matches("g") && !rows[mark.dataset.row].row.hidden)
    .map((mark) => ({ mark, x: 0, y: 0, circle: mark.querySelector("circle") }));
  for (const one of circles) {
    one.x = parseFloat(one.circle.getAttribute("cx"));
    one.y = parseFloat(one.circle.getAttribute("cy"));
  }
  circles.sort((a, b) => a.x - b.x || a.y - b.y);
  const front = [];
  for (const one of circles) {
    const last = front.at(-1);
    if (!last || one.y < last.y || (one.y === last.y && one.x === last.x)) front.push(one);
  }
  return front;
}

function draw() {
  const best = new Set();
  for (const { line, marks } of dots) {
    const front = frontOf(marks);
    for (const { mark } of front) best.add(mark.dataset.row);
    for (const mark of marks) {
      mark.style.display = rows[mark.dataset.row].row.hidden ? "none" : "";
      const on = front.some((one) => one.mark.dataset.row === mark.dataset.row);
      mark.classList.toggle("on", on);
      mark.classList.toggle("behind", !on);
    }
    const corners = front.flatMap(({ x, y }, place) =>
      place ? [`${x},${front[place - 1].y}`, `${x},${y}`] : [`${x},${y}`],
    );
    line?.setAttribute("points", corners.join(" "));
  }
  if (dots.length) {
    for (const one of rows) {
      one.row.querySelector(".front").hidden = !best.has(String(one.number));
    }
  }
}

function tell() {
  const count = rows.filter((one) => !one.row.hidden).length;
  const order = sorted.ariaSort === "ascending" ? "lowest" : "highest";
  const first = sorted.dataset.kind === "number" ? `${order} first` : sorted.ariaSort;
  const which = count === rows.length ? `${count} builds` : `${count} of ${rows.length} builds`;
  shown.textContent = `${which}, sorted by ${sorted.textContent.trim()}, ${first ?? ""}`;
}

for (const head of heads) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  button.addEventListener("click", () => sortBy(head));
  head.append(button);
}
search.addEventListener("input", filter);
for (const select of selects) select.addEventListener("change", filter);
reset.addEventListener("click", () => {
  search.value = "";
  for (const select of selects) select.value = "";
  filter();
  search.focus();
});
document.querySelector("#controls").hidden = false;
filter(); // a browser that goes back to the page keeps what was typed
