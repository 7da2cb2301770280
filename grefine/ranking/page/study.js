"use strict";

const $ = (id) => document.getElementById(id);
const panes = [$("left"), $("right")];
const RETRY = 1000;

let subject = "";
let study = null; // digest of the study, sent back with every vote
let trial = null; // what is shown now
let pending = null; // a vote that the server has not confirmed
let shownAt = 0;
let view = { zoom: 1, x: 0.5, y: 0.5 }; // zoom 1 = whole picture; x, y = picture point at the pane's centre
let note = "";

function show(state) {
  document.body.dataset.state = state;
  $("welcome").hidden = state !== "welcome";
  $("trial").hidden = !["shown", "waiting"].includes(state);
  $("finished").hidden = state !== "finished";
  for (const side of ["left", "right"]) $(`choose-${side}`).disabled = state !== "shown";
}

function trouble(text) {
  $("trouble").hidden = !text;
  $("trouble-text").textContent = text;
}

async function ask(path, options = {}) {
  const reply = await fetch(path, { cache: "no-store", redirect: "error", ...options });
  if (reply.status >= 500) throw new Error("server");
  const content = await reply.json();
  return { status: reply.status, content };
}

// Repeats until the server answers: a request that was lost on the way changes nothing when it is sent again.
async function insist(path, options) {
  for (;;) {
    try {
      const reply = await ask(path, options);
      trouble("");
      return reply;
    } catch {
      trouble(pending ? "The server does not answer. Your choice is kept and will be sent." : "The server does not answer. Trying again.");
      await new Promise((resolve) => setTimeout(resolve, RETRY));
    }
  }
}

async function next() {
  const reply = await insist(`api/trial?subject=${encodeURIComponent(subject)}`);
  if (reply.status !== 200) {
    sessionStorage.removeItem("subject");
    $("welcome-error").textContent = reply.content.error;
    show("welcome");
    return;
  }
  sessionStorage.setItem("subject", subject);
  await present(reply.content);
}

async function present(found) {
  document.title = found.title;
  study = found.study;
  trial = found.trial;
  $("total").textContent = found.total;
  if (!trial) {
    show("finished");
    return;
  }
  show("waiting");
  $("question").textContent = trial.training ? `Exercise: ${found.question}` : found.question;
  $("count").textContent = `${found.done + 1} of ${found.total}`;
  $("progress").setAttribute("aria-valuemax", found.total);
  $("progress").setAttribute("aria-valuenow", found.done);
  $("bar").style.width = `${(100 * found.done) / found.total}%`;
  $("note").textContent = note;
  for (const pane of panes) pane.classList.remove("ready", "chosen");
  view = { zoom: 1, x: 0.5, y: 0.5 };
  const current = trial;
  await Promise.all([load(panes[0], trial.left), load(panes[1], trial.right)]);
  if (trial !== current) return;
  // Both appear in the same frame, so that neither is seen first.
  place();
  for (const pane of panes) pane.classList.add("ready");
  shownAt = performance.now();
  show("shown");
  for (const path of trial.preload) new Image().src = path;
}

async function load(pane, path) {
  const image = pane.querySelector("img");
  for (;;) {
    image.src = path;
    try {
      await image.decode();
      trouble("");
      return;
    } catch {
      trouble("A picture could not be loaded. Trying again.");
      await new Promise((resolve) => setTimeout(resolve, RETRY));
      image.removeAttribute("src");
    }
  }
}

function place() {
  for (const pane of panes) {
    const box = pane.querySelector(".view").getBoundingClientRect();
    const image = pane.querySelector("img");
    const whole = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
    const scale = whole * view.zoom;
    const left = box.width / 2 - view.x * image.naturalWidth * scale;
    const top = box.height / 2 - view.y * image.naturalHeight * scale;
    image.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
    image.classList.toggle("enlarged", scale >= 3);
  }
  document.body.dataset.zoom = view.zoom.toFixed(3);
}

function zoom(factor, at) {
  const before = view.zoom;
  view.zoom = Math.min(16, Math.max(1, before * factor));
  if (at) {
    // The picture point under the pointer stays under it.
    const step = 1 / before - 1 / view.zoom;
    view.x += at.x * step;
    view.y += at.y * step;
  }
  move(0, 0);
}

function move(dx, dy) {
  const reach = 0.5 - 0.5 / view.zoom;
  view.x = Math.min(0.5 + reach, Math.max(0.5 - reach, view.x + dx / view.zoom));
  view.y = Math.min(0.5 + reach, Math.max(0.5 - reach, view.y + dy / view.zoom));
  place();
}

// Where the pointer is, in shares of the whole picture's size from the pane's centre.
function offset(pane, event) {
  const box = pane.querySelector(".view").getBoundingClientRect();
  const image = pane.querySelector("img");
  const whole = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
  return {
    x: (event.clientX - box.left - box.width / 2) / (image.naturalWidth * whole),
    y: (event.clientY - box.top - box.height / 2) / (image.naturalHeight * whole),
  };
}

async function choose(side) {
  if (document.body.dataset.state !== "shown" || pending) return;
  pending = { subject, trial: trial.id, choice: side, seconds: (performance.now() - shownAt) / 1000 };
  show("waiting");
  $(side).classList.add("chosen");
  const reply = await insist("api/vote", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Study": study },
    body: JSON.stringify(pending),
  });
  pending = null;
  if (reply.status !== 200 && reply.status !== 409) {
    trouble(`${reply.content.error} Reload the page to go on.`);
    return;
  }
  const { correct } = reply.content;
  note = correct === undefined ? "" : correct ? "Right: the other picture was damaged on purpose." : "That picture was damaged on purpose; look closely.";
  await present(reply.content);
}

const KEYS = {
  "+": () => zoom(1.5),
  "=": () => zoom(1.5),
  "-": () => zoom(1 / 1.5),
  "0": () => zoom(0),
  w: () => move(0, -0.15),
  a: () => move(-0.15, 0),
  s: () => move(0, 0.15),
  d: () => move(0.15, 0),
};

document.addEventListener("keydown", (event) => {
  if ($("trial").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    event.preventDefault();
    // A key that is held down chooses once.
    if (!event.repeat) choose(event.key === "ArrowLeft" ? "left" : "right");
    return;
  }
  const action = KEYS[event.key.toLowerCase()];
  if (action && document.body.dataset.state === "shown") {
    event.preventDefault();
    action();
  }
});

for (const pane of panes) {
  const area = pane.querySelector(".view");
  let last = null;
  area.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), offset(pane, event));
  }, { passive: false });
  area.addEventListener("pointerdown", (event) => {
    area.setPointerCapture(event.pointerId);
    area.classList.add("moving");
    last = offset(pane, event);
  });
  area.addEventListener("pointermove", (event) => {
    if (!last) return;
    const now = offset(pane, event);
    move(last.x - now.x, last.y - now.y);
    last = now;
  });
  for (const end of ["pointerup", "pointercancel"]) area.addEventListener(end, () => { last = null; area.classList.remove("moving"); });
}

window.addEventListener("resize", () => { if (document.body.dataset.state === "shown") place(); });
for (const side of ["left", "right"]) $(`choose-${side}`).addEventListener("click", () => choose(side));
$("start").addEventListener("submit", (event) => {
  event.preventDefault();
  subject = $("subject").value.trim();
  $("welcome-error").textContent = "";
  next();
});

subject = sessionStorage.getItem("subject") || "";
if (subject) next();
else {
  show("welcome");
  $("subject").focus();
}
