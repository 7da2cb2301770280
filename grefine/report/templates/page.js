"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  if (!data.index.length) return;
  const PER_PAGE = 24;
  const NAME = 0, GROUP = 1, KEPT = 2, GAINS = 3;
  const KEPT_NAMES = { original: "original kept", repainted: "repainted", both: "repainted and restored", restored: "restored", untouched: "nothing to repair", refined: "refined", kept: "original kept after comparing", beyond: "beyond repair, needs a new generation" };
  const LAYERS = { quality: "bad places (PQ map)", alignment: "missing from the prompt (AQ map)", mask: "repainted area" };
  const $ = (id) => document.getElementById(id);
  const noisy = data.inNoise, times = noisy ? " × noise" : "";
  const measures = [
    ...(noisy ? [{ label: "any score, in units of its noise", column: -1, band: 1, unit: times }] : []),
    ...data.axes.map((axis, i) => ({ label: axis.name === "perceptual" ? "perceptual quality" : "alignment", column: ["perceptual", "alignment"].indexOf(axis.name), band: axis.band, unit: " SD", n: axis.n })).filter((m) => m.n),
    ...data.metrics.map((metric, i) => ({ label: metric.name + (metric.loop && !noisy ? " (used in the loop)" : ""), column: 2 + i, band: noisy ? 1 : metric.band, unit: times })),
  ].filter((m) => data.index.some((row) => row[GAINS].some((gains) => at(gains, m) !== null)));
  // The judges speak for an image; the scores of the maps themselves only where it has no other.
  function judged(gains) {
    const own = data.metrics.map((metric, i) => ({ name: metric.name, gain: gains[2 + i] })).filter((m) => m.gain !== null);
    const others = own.filter((m) => m.name !== "p" && m.name !== "a");
    return (others.length ? others : own).sort((a, b) => b.gain - a.gain);
  }
  function at(gains, measure) {
    if (measure.column >= 0) return gains[measure.column];
    const found = judged(gains);
    return found.length ? found[0].gain : null;
  }
  // Methods count from 1 as in data.labels; 0 is the input itself, which any method can be laid against.
  const many = data.labels.length > 2;
  const state = { order: [], page: 0, open: -1, method: data.first, left: 0, measure: measures[0] || null, layers: new Set() };
  const gainOf = (row, measure) => (measure ? at(row[GAINS][state.method - 1], measure) : null);
  const keptOf = (row) => row[KEPT][state.method - 1];
  const chunks = data.chunks || [];
  const waiting = new Map();

  function element(tag, options, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(options || {})) {
      if (key === "class") made.className = value;
      else if (key === "text") made.textContent = value;
      else if (key in made && key !== "list") made[key] = value;
      else made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  function option(select, value, text) { select.append(element("option", { value, text })); }

  function signed(value) {
    if (value === null || value === undefined) return "n/a";
    if (value === 0) return "±0";
    const size = Math.abs(value);
    return (value > 0 ? "+" : "−") + (size >= 1e4 || size < 1e-3 ? size.toExponential(1) : size.toPrecision(3).replace(/\.?0+$/, (z) => (z.includes(".") ? "" : z)));
  }

  function tone(value, band) { return value === null ? "" : value > band ? "gain" : value < -band ? "loss" : "even"; }

  function address(name) { return data.media[name] || data.folder + "/" + name; }

  // Large reports keep the details of every few hundred images in a file of their own.
  window.grefinePage = (number, rows) => { chunks[number] = rows; (waiting.get(number) || []).forEach((done) => done()); waiting.delete(number); };
  function details(image) {
    const number = Math.floor(image / data.rows);
    const pick = () => chunks[number][image % data.rows];
    if (chunks[number]) return Promise.resolve(pick());
    return new Promise((resolve, reject) => {
      const queue = waiting.get(number);
      if (queue) { queue.push(() => resolve(pick())); return; }
      waiting.set(number, [() => resolve(pick())]);
      const script = element("script", { src: data.folder + "/page-" + number + ".js" });
      script.onerror = () => { waiting.delete(number); reject(new Error("The folder " + data.folder + " is not beside this page.")); };
      document.head.append(script);
    });
  }

  function compare(image, detail, lazy) {
    const name = data.index[image][NAME];
    const left = data.labels[state.left], right = data.labels[state.method], made = detail.made[state.method - 1];
    const [width, height] = detail.size;
    const box = element("div", { class: "compare" + (Math.max(width, height) <= 160 ? " tiny" : "") });
    box.style.setProperty("--ratio", Math.min(2, Math.max(0.6, width / height)));
    const file = (place) => address(place ? detail.made[place - 1].after : detail.before);
    const picture = (which, place) => element("img", { class: which, src: file(place), alt: data.labels[place] + ": " + name, draggable: false, loading: lazy ? "lazy" : "eager", decoding: "async" });
    const range = element("input", { type: "range", min: 0, max: 100, value: 50, step: 1, "aria-label": "Slider between " + left + " and " + right + ", " + name });
    const move = () => {
      box.style.setProperty("--x", range.value + "%");
      range.setAttribute("aria-valuetext", range.value + " % " + left + ", " + (100 - range.value) + " % " + right);
    };
    range.addEventListener("input", move);
    box.append(picture("before", state.left), picture("after", state.method));
    for (const kind of Object.keys(made.layers)) {
      box.append(element("img", { class: "layer " + kind, src: address(made.layers[kind]), alt: LAYERS[kind], loading: "lazy" }));
    }
    box.append(element("span", { class: "rod" }), element("span", { class: "tag b", text: left }), element("span", { class: "tag a", text: right }), range);
    move();
    return box;
  }

  // Whether a decision was good for the picture: it got better, or was spared what would have made it worse.
  const DECIDED = { original: "even", untouched: "even", kept: "even", beyond: "loss" };

  function badges(row) {
    const meta = element("span", { class: "meta" });
    if (noisy) {
      const kept = keptOf(row), good = DECIDED[kept] || "gain";
      if (kept) meta.append(element("span", { class: "badge " + good, text: KEPT_NAMES[kept] || kept }));
      const beyond = judged(row[GAINS][state.method - 1]).filter((m) => Math.abs(m.gain) > 1);
      for (const m of new Set([...beyond.slice(0, 2), ...beyond.filter((m) => m.gain < 0)])) {
        meta.append(element("span", { class: "badge " + (m.gain > 0 ? good : "even"), text: m.name + (m.gain > 0 ? " +" : " −") + Math.abs(m.gain).toFixed(1) + times }));
      }
      return meta;
    }
    for (const measure of state.measure ? new Set([state.measure, ...measures.filter((m) => m.column < 2)]) : []) {
      const value = gainOf(row, measure);
      if (value !== null) meta.append(element("span", { class: "badge " + tone(value, measure.band), text: measure.label.replace(" (used in the loop)", "") + " " + signed(value) + measure.unit }));
    }
    if (keptOf(row)) meta.append(element("span", { class: "badge", text: KEPT_NAMES[keptOf(row)] || keptOf(row) }));
    if (row[GROUP]) meta.append(element("span", { class: "badge", text: row[GROUP] }));
    return meta;
  }

  function arrange() {
    const measure = state.measure;
    const gain = (i) => gainOf(data.index[i], measure);
    const wanted = $("filter").value, group = $("group").value, text = $("find").value.trim().toLowerCase();
    const passes = (i) => {
      const row = data.index[i];
      if (text && !row[NAME].toLowerCase().includes(text)) return false;
      if (group && row[GROUP] !== group) return false;
      if (!wanted) return true;
      if (wanted.startsWith("kept:")) return keptOf(row) === wanted.slice(5);
      return gain(i) !== null && tone(gain(i), measure.band) === wanted;
    };
    const order = data.index.map((_, i) => i).filter(passes);
    const how = $("sort").value;
    const last = (value, sign) => (value === null ? Infinity : sign * value);
    const by = {
      gain: (a, b) => last(gain(a), -1) - last(gain(b), -1),
      loss: (a, b) => last(gain(a), 1) - last(gain(b), 1),
      change: (a, b) => last(gain(a) === null ? null : Math.abs(gain(a)), -1) - last(gain(b) === null ? null : Math.abs(gain(b)), -1),
      name: (a, b) => (data.index[a][NAME] < data.index[b][NAME] ? -1 : 1),
      order: (a, b) => a - b,
    };
    const compared = by[how];
    state.order = order.sort((a, b) => { const d = compared(a, b); return Number.isNaN(d) || d === 0 ? a - b : d; });
    show(0);
  }

  let drawing = 0;
  async function show(page) {
    const pages = Math.max(1, Math.ceil(state.order.length / PER_PAGE));
    state.page = Math.min(Math.max(0, page), pages - 1);
    const start = state.page * PER_PAGE, shown = state.order.slice(start, start + PER_PAGE);
    const mine = ++drawing;
    const count = state.order.length, all = data.index.length;
    $("status").textContent = count === 0 ? "No image matches." : (count === all ? all + (all === 1 ? " image" : " images") : count + " of " + all + " images") + (pages > 1 ? ", showing " + (start + 1) + " to " + (start + shown.length) : "") + ".";
    $("pager").hidden = pages === 1;
    $("page").textContent = "Page " + (state.page + 1) + " of " + pages;
    $("previous").disabled = state.page === 0;
    $("next").disabled = state.page === pages - 1;
    try {
      const found = await Promise.all(shown.map(details));
      if (mine !== drawing) return;
      $("cards").replaceChildren(...shown.map((image, i) => card(image, found[i], start + i)));
    } catch (error) {
      $("cards").replaceChildren();
      $("status").textContent = error.message;
    }
  }

  function card(image, detail, place) {
    const row = data.index[image];
    const open = element("button", { type: "button", class: "open", title: row[NAME], "aria-haspopup": "dialog" }, element("span", { class: "name", text: row[NAME] }), badges(row));
    open.addEventListener("click", () => view(place));
    return element("li", { class: "card" }, compare(image, detail, true), open);
  }

  function prompted(detail) {
    const box = element("p", { class: "prompt" });
    const characters = Array.from(detail.prompt);
    let at = 0;
    for (const [start, end, weight] of [...detail.emphasis].sort((a, b) => a[0] - b[0])) {
      if (start < at || end > characters.length) continue;
      box.append(characters.slice(at, start).join(""));
      box.append(element("mark", { text: characters.slice(start, end).join("") }, element("sup", { text: " ×" + weight })));
      at = end;
    }
    box.append(characters.slice(at).join(""));
    return box;
  }

  function everyScore(detail) {
    const body = element("tbody");
    for (const metric of data.metrics) {
      const found = detail.made.map((made) => made.scores[metric.name] || [null, null]);
      const before = (found.find((pair) => pair[0] !== null) || [null])[0];
      if (found.every((pair) => pair[0] === null && pair[1] === null)) continue;
      const cells = found.map(([b, a]) => element("td", { class: a === null || b === null ? "" : tone(metric.lower ? b - a : a - b, metric.band), text: short(a) }));
      cells[state.method - 1].classList.add("now");
      body.append(element("tr", {}, element("th", { scope: "row", text: metric.name + (metric.lower ? " ↓" : " ↑") + (metric.loop ? " †" : "") }), element("td", { text: short(before) }), ...cells));
    }
    const head = element("thead", {}, element("tr", {}, ...["metric", ...data.labels].map((text) => element("th", { scope: "col", text }))));
    return element("div", { class: "sideways", tabIndex: 0, role: "region", "aria-label": "Scores of every method" }, element("table", {}, head, body));
  }

  function short(value, digits = 4) { return value === null ? "n/a" : String(+value.toPrecision(digits)); }

  const MAPS = { p: "p, of the quality map", a: "a, of the alignment map" };
  // Names may break after their joints, nowhere else: on a telephone the table has little room.
  function metricName(name) { return (noisy && MAPS[name] || name).replace(/([._])/g, "$1\u200b"); }

  function scores(detail) {
    const body = element("tbody");
    for (const [name, [before, after]] of Object.entries(detail.scores)) {
      const metric = data.metrics.find((m) => m.name === name) || { lower: false, band: 0, loop: false };
      const delta = before === null || after === null ? null : after - before;
      const good = delta === null ? null : metric.lower ? -delta : delta;
      const noise = name in detail.noise ? detail.noise[name] : null;
      const digits = noisy ? 3 : 4;
      const cells = [element("td", { text: short(before, digits) }), element("td", { text: short(after, digits) }), element("td", { class: tone(good, noisy ? noise || 0 : metric.band), text: signed(delta) })];
      if (noisy) cells.push(element("td", { text: short(noise, 2) }));
      body.append(element("tr", {}, element("th", { scope: "row", text: metricName(name) + (metric.lower ? " ↓" : " ↑") + (metric.loop && !noisy ? " †" : "") }), ...cells));
    }
    const head = element("thead", {}, element("tr", {}, ...["metric", "before", "after", "change", ...(noisy ? ["noise"] : [])].map((text) => element("th", { scope: "col", text }))));
    return element("table", {}, head, body);
  }

  async function view(place) {
    const image = state.order[place];
    const row = data.index[image];
    const detail = await details(image);
    state.open = place;
    state.image = image;
    $("viewer-name").textContent = row[NAME];
    $("viewer-name").title = row[NAME];
    $("viewer-where").textContent = place + 1 + " / " + state.order.length;
    $("viewer-previous").disabled = place === 0;
    $("viewer-next").disabled = place === state.order.length - 1;
    const box = compare(image, detail, false);
    $("viewer-stage").replaceChildren(box);
    const made = detail.made[state.method - 1];
    const layers = Object.keys(made.layers);
    $("viewer-layers").hidden = layers.length === 0;
    $("viewer-layers").replaceChildren($("viewer-layers").querySelector("legend"));
    for (const kind of layers) {
      const tick = element("input", { type: "checkbox", checked: state.layers.has(kind) });
      const apply = () => { state.layers[tick.checked ? "add" : "delete"](kind); box.querySelector("." + kind).classList.toggle("on", tick.checked); };
      tick.addEventListener("change", apply);
      apply();
      $("viewer-layers").append(element("label", {}, tick, element("span", { class: "swatch " + kind }), LAYERS[kind]));
    }
    for (const button of $("viewer-methods").querySelectorAll("button")) button.setAttribute("aria-pressed", String(+button.value === state.method));
    const text = $("viewer-text");
    text.replaceChildren(badges(row));
    const add = (title, node) => text.append(element("h3", { text: title }), node);
    if (keptOf(row) || made.reason) add("Decision", element("p", { text: [KEPT_NAMES[keptOf(row)] || keptOf(row), made.reason].filter(Boolean).join(": ") + (made.guarded === false ? " (no independent judge guarded this)" : "") }));
    if (made.prompt) add(made.emphasis.length ? "Prompt, emphasised where something was missing" : "Prompt", prompted(made));
    if (Object.keys(made.scores).length) add("Scores", many ? everyScore(detail) : scores(made));
    if (!noisy && data.metrics.some((m) => m.loop && m.name in made.scores)) text.append(element("p", { class: "hint", text: "† helped to make these images or sorts them: no evidence." }));
    if (made.notes.length) add("Notes", element("ul", {}, ...made.notes.map((note) => element("li", { text: note }))));
    if (!$("viewer").open) $("viewer").showModal();
    $("viewer").scrollTop = 0;
  }

  function step(by) { const to = state.open + by; if (to >= 0 && to < state.order.length) view(to); }

  for (const [value, text] of measures.length ? [["gain", "largest gain"], ["loss", "largest loss"], ["change", "largest change"], ["name", "name"], ["order", "order of the run"]] : [["order", "order of the run"], ["name", "name"]]) option($("sort"), value, text);
  measures.forEach((measure, i) => option($("measure"), String(i), measure.label));
  $("measure").parentElement.hidden = measures.length < 2;
  option($("filter"), "", "all images");
  if (measures.length) { option($("filter"), "gain", "gained"); option($("filter"), "even", "same"); option($("filter"), "loss", "lost"); }
  for (const kept of new Set(data.index.flatMap((row) => row[KEPT]).filter(Boolean))) option($("filter"), "kept:" + kept, KEPT_NAMES[kept] || kept);
  const groups = [...new Set(data.index.map((row) => row[GROUP]).filter(Boolean))].sort();
  option($("group"), "", "all groups");
  groups.forEach((group) => option($("group"), group, group));
  $("group-label").hidden = groups.length < 2;

  data.labels.forEach((label, i) => {
    if (i) option($("method"), String(i), label);
    option($("left"), String(i), label);
    const button = element("button", { type: "button", value: String(i), text: label });
    // Inside the viewer the order stays as it is, so that only the picture changes.
    button.addEventListener("click", () => { choose(i); state.stale = true; view(state.open); });
    if (i) $("viewer-methods").append(button);
  });
  for (const id of ["method-label", "left-label", "viewer-methods"]) $(id).hidden = !many;
  function choose(method, left = state.left) {
    state.method = method;
    state.left = left === method ? 0 : left;
    $("method").value = String(method);
    $("left").value = String(state.left);
  }
  choose(state.method);
  for (const id of ["method", "left"]) $(id).addEventListener("input", () => { choose(+$("method").value, +$("left").value); arrange(); });

  $("measure").addEventListener("change", () => { state.measure = measures[+$("measure").value]; arrange(); });
  for (const id of ["sort", "filter", "group", "find"]) $(id).addEventListener("input", arrange);
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  const turn = (by) => { show(state.page + by); $("gallery").scrollIntoView(); };
  $("previous").addEventListener("click", () => turn(-1));
  $("next").addEventListener("click", () => turn(1));
  $("viewer-previous").addEventListener("click", () => step(-1));
  $("viewer-next").addEventListener("click", () => step(1));
  $("viewer-close").addEventListener("click", () => $("viewer").close());
  $("viewer").addEventListener("click", (event) => { if (event.target === $("viewer")) $("viewer").close(); });
  $("viewer").addEventListener("close", () => {
    const stale = state.stale;
    if (stale) { state.stale = false; arrange(); state.open = Math.max(0, state.order.indexOf(state.image)); }
    const page = Math.floor(state.open / PER_PAGE);
    const focus = () => { const made = $("cards").querySelectorAll(".open")[state.open % PER_PAGE]; if (made) made.focus(); };
    page === state.page && !stale ? focus() : show(page).then(focus);
  });
  $("viewer").addEventListener("keydown", (event) => {
    if (event.target.matches("input")) { if (event.key !== "PageUp" && event.key !== "PageDown") return; event.preventDefault(); }
    if (event.key === "ArrowLeft" || event.key === "PageUp") step(-1);
    if (event.key === "ArrowRight" || event.key === "PageDown") step(1);
  });
  arrange();
})();
