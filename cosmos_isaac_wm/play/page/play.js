// The page of a dream that is played: it shows what it is told, and says what its visitor does.

import { Controls } from "./controls.js";

const $ = (id) => document.getElementById(id);
const ENDS = {
  goal: ["Goal reached", "The object is where it should be."],
  over: ["It is over", "The episode has ended by itself."],
  time: ["Time is up", "The episode has as many steps as it may have."],
  lost: ["Lost", "The dream can no longer be believed."],
};
const ICONS = { play: "M7 4v16l13-8z", pause: "M6 4h4v16H6zm8 0h4v16h-4z" };
const page = { scene: null, state: null, controls: null, socket: null, number: 0, waiting: [], delays: [], times: [], pictures: new Map(), drawing: false, kept: "" };

function send(what, more = {}) {
  if (page.socket?.readyState !== WebSocket.OPEN || !page.state?.drives) return;
  page.answered = false;
  page.socket.send(JSON.stringify({ do: what, ...more }));
}

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? hear(JSON.parse(data)) : see(new Uint8Array(data)));
  socket.onclose = () => {
    role("connection lost", "lost");
    setTimeout(connect, 1500);
  };
  page.socket = socket;
}

function hear(message) {
  if (message.type === "scene") begin(message);
  else if (message.type === "state") show(message);
  else if (message.type === "error") toast(message.text, true);
  else if (message.type === "kept") { page.kept = `Demonstration ${message.number} is kept. `; toast(page.kept); }
}

function begin(scene) {
  page.scene = scene;
  page.state = null; // of a connection that was lost
  page.number = 0;
  $("scene").textContent = scene.scene.replaceAll("-", " ");
  document.title = `${scene.scene} – play the dream`;
  for (const canvas of [$("dream"), $("real")]) { canvas.width = scene.width; canvas.height = scene.height; }
  $("views").style.setProperty("--ratio", scene.width / scene.height);
  $("bound-meter").hidden = !scene.bound;
  $("wheel").disabled = !scene.policy;
  $("wheel").title = scene.policy ? "The policy drives (P)" : "Name a policy with --policy";
  $("record").disabled = !scene.record;
  $("record").title = scene.record ? `Record ${scene.pictures === "real" ? "real pictures" : "the dream"} (O)` : "Start with --out DIR to record";
  $("beside").title = "The real simulator beside the dream (B)";
  $("speeds").replaceChildren(...scene.speeds.map((times) => {
    const button = document.createElement("button");
    button.textContent = { 0.25: "¼×", 0.5: "½×" }[times] ?? `${times}×`;
    button.setAttribute("aria-label", `${times} times real time`);
    button.dataset.times = times;
    button.onclick = (event) => { send("speed", { times }); letKeysGo(event); };
    return button;
  }));
  if (page.controls) { page.controls.rested(scene.controls); return; }
  page.controls = new Controls(scene.controls, act, () => page.answered);
  page.controls.draggable($("stick"), true);
  page.controls.draggable($("dream"), false);
}

function act(action, when) {
  if (!page.state?.drives) return;
  send("act", { action, number: ++page.number });
  const moves = page.scene.controls.kind === "discrete" || action.some(Boolean);
  if (!page.state.running && moves && page.state.step === 0) send("run", { on: true });
  else if (page.state.running) page.waiting.push([page.number, when]);
}

function see(bytes) {
  page.pictures.set(bytes[0], { bytes: bytes.subarray(1), number: page.state?.acted ?? 0 });
  if (!page.drawing) draw();
}

// Of each view only the newest picture is drawn: a slow machine shows fewer, and none late.
async function draw() {
  page.drawing = true;
  for (const [place, { bytes, number }] of page.pictures) { // those too that come meanwhile
    page.pictures.delete(place);
    try {
      const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
      $(place ? "real" : "dream").getContext("2d").drawImage(bitmap, 0, 0);
      bitmap.close();
      if (!place) drawn(number);
    } catch { /* a picture that is damaged is left out */ }
  }
  page.drawing = false;
}

// Counts pictures, and the time from a key to the first picture that its action has led to.
function drawn(number) {
  const now = performance.now();
  page.times.push(now);
  while (page.times.length && page.times[0] < now - 2000) page.times.shift();
  while (page.waiting.length && page.waiting[0][0] <= number) page.delays.push(now - page.waiting.shift()[1]);
  if (page.delays.length > 100) page.delays.splice(0, page.delays.length - 100);
}

function figures() {
  const now = performance.now(), times = page.times.filter((time) => time > now - 2000);
  const rate = times.length > 1 ? (1000 * (times.length - 1)) / (times.at(-1) - times[0]) : 0;
  $("fps").textContent = page.state?.running && rate ? rate.toFixed(0) : "–";
  const sorted = [...page.delays].sort((a, b) => a - b);
  if (sorted.length) $("latency").textContent = sorted[Math.floor(sorted.length / 2)].toFixed(0);
}

const metres = (value) => (value < 1 ? `${(100 * value).toFixed(1)}<small>cm</small>` : `${value.toFixed(2)}<small>m</small>`);
const number = (value) => (value == null ? "–" : value.toFixed(Math.abs(value) < 10 ? 2 : 1));

function show(state) {
  const before = page.state;
  page.state = state;
  page.answered = true;
  if (state.drives && !before?.drives) page.controls.rested();
  page.controls.tell(performance.now());
  role(state.drives ? "you drive" : "you watch", state.drives ? "drives" : "", state.visitors);
  $("step").textContent = `${state.step} / ${page.scene.limit}`;
  $("reward").textContent = number(state.reward);
  $("return").textContent = number(state.return);
  $("time").innerHTML = `${state.time.toFixed(1)}<small>s</small>`;
  $("distance-name").textContent = state.distance !== undefined || state.goal ? "To the goal" : "Step";
  if (state.distance != null) $("distance").innerHTML = metres(state.distance);
  else $("distance").textContent = state.goal ? "–" : state.step;
  $("observed").hidden = !state.observed;
  if (state.observed) $("observed").textContent = `observed: ${state.observed.map(number).join("  ")}`;
  showBound(state.bound);
  $("real-view").hidden = !state.real;
  $("views").classList.toggle("both", state.real);
  $("gap").hidden = state.gap == null;
  if (state.gap != null) $("gap").textContent = `${(100 * state.gap).toFixed(1)} cm apart`;
  for (const [id, on] of [["record", state.recording], ["wheel", state.wheel], ["beside", state.real]]) $(id).setAttribute("aria-pressed", on);
  $("recorded").textContent = state.recorded || "";
  $("rec").hidden = !state.recording || state.over; // what is played on after the end is not recorded
  $("auto").hidden = !state.wheel;
  document.querySelectorAll("#speeds button").forEach((button) => button.setAttribute("aria-pressed", Number(button.dataset.times) === state.speed));
  for (const button of document.querySelectorAll("footer button, #beside")) button.disabled = !state.drives;
  $("wheel").disabled = !state.drives || !page.scene.policy;
  $("record").disabled = !state.drives || !page.scene.record;
  $("run-icon").setAttribute("d", ICONS[state.running ? "pause" : "play"]);
  $("run-name").textContent = state.running ? "Pause" : "Play";
  $("run").setAttribute("aria-label", state.running ? "Pause" : "Play");
  page.controls.show(state.action);
  if (!state.running) { page.waiting = []; page.times = []; }
  if (!before || before.step !== state.step || before.running !== state.running || before.ended !== state.ended || before.drives !== state.drives) overlay(state);
}

function showBound(bound) {
  if (!bound) return;
  const share = bound.value / (bound.value + bound.limit); // the limit is in the middle, and no bound beyond the end
  $("bound").innerHTML = `± ${bound.unit === "m" ? metres(bound.value) : `${number(bound.value)}<small>std</small>`}`;
  const bar = $("bound-bar");
  bar.style.setProperty("--share", share);
  bar.style.setProperty("--tone", `var(--${share < 0.3 ? "good" : share < 0.5 ? "warn" : "bad"})`);
  bar.setAttribute("aria-valuemax", 1);
  bar.setAttribute("aria-valuenow", share.toFixed(2));
  bar.setAttribute("aria-valuetext", $("bound").textContent);
  bar.title = `Beyond ${bound.unit === "m" ? `${100 * bound.limit} cm` : `${bound.limit} standard deviation`} the dream is not to be relied on`;
}

function overlay(state) {
  const start = state.step === 0 && !state.running, end = state.ended && !state.running;
  $("overlay").classList.toggle("away", !start && !end);
  if (!start && !end) { page.kept = ""; return; }
  const touch = matchMedia("(pointer: coarse)").matches;
  $("overlay-title").textContent = end ? ENDS[state.ended][0] : state.recording ? "Ready to record" : "Ready to dream";
  $("overlay-text").textContent = end ? page.kept + ENDS[state.ended][1]
    : !state.drives ? "Somebody else drives; you watch."
    : page.scene.controls.kind === "discrete" ? "Choose an action." : touch ? "Drag on the picture, or move the stick." : "Press an arrow key, or drag on the picture.";
  $("overlay-go").textContent = end ? "New dream" : "Start";
  $("overlay-go").hidden = !state.drives;
  $("overlay-on").hidden = !end || !state.drives;
}

function role(text, kind, visitors = 1) {
  $("role").textContent = visitors > 1 ? `${text} · ${visitors} here` : text;
  $("role").className = `chip ${kind}`;
}

let toasted;
function toast(text, bad = false) {
  $("toast").textContent = text;
  $("toast").className = `shown ${bad ? "bad" : ""}`;
  clearTimeout(toasted);
  toasted = setTimeout(() => { $("toast").className = ""; }, bad ? 6000 : 2500);
}

function restart() {
  page.kept = "";
  send("reset");
  send("run", { on: true });
}

const toggle = (id) => send(id === "beside" ? "real" : id, { on: $(id).getAttribute("aria-pressed") !== "true" });
const actions = {
  reset: () => { page.kept = ""; send("reset"); },
  back: () => send("rewind", { steps: 10 }),
  run: () => (page.state?.ended && !page.state.running ? restart() : send("run", { on: !page.state?.running })),
  once: () => send("step"),
  record: () => toggle("record"),
  wheel: () => toggle("wheel"),
  beside: () => toggle("beside"),
  "overlay-go": () => (page.state?.ended ? restart() : send("run", { on: true })),
  "overlay-on": () => send("run", { on: true }),
  help: () => $("keys").showModal(),
  theme: () => setTheme(document.documentElement.dataset.theme === "light" ? "dark" : "light"),
};
const SHORTCUTS = { Space: "run", Period: "once", Backspace: "back", KeyR: "reset", KeyP: "wheel", KeyB: "beside", KeyO: "record" };
const REPEATED = ["Period", "Backspace", "Comma"]; // while they are held; each time, what was asked before is awaited

function setTheme(theme, keep = true) {
  document.documentElement.dataset.theme = theme;
  try { if (keep) localStorage.setItem("theme", theme); } catch { /* no storage: the choice lasts as long as the page */ }
}

// A button that was clicked leaves the keys to the dream; one that was pressed by a key stays where the reader is.
function letKeysGo(event) {
  if (event.detail > 0) event.currentTarget.blur();
}

for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", (event) => { action(); letKeysGo(event); });
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  if (event.target instanceof HTMLInputElement && event.code.startsWith("Arrow")) return;
  const onButton = event.target instanceof HTMLButtonElement && ["Space", "Enter"].includes(event.code);
  if (onButton) return;
  if (event.repeat && REPEATED.includes(event.code) && !page.answered) return;
  if (event.key === "?") actions.help();
  else if (event.code === "Comma") send("rewind", { steps: 1 });
  else if (page.controls?.press(event)) event.preventDefault();
  else if (event.code in SHORTCUTS && (!event.repeat || REPEATED.includes(event.code))) {
    event.preventDefault();
    actions[SHORTCUTS[event.code]]();
  } else if (event.code === "Enter" && !$("overlay").classList.contains("away")) actions["overlay-go"]();
});
addEventListener("keyup", (event) => page.controls?.release(event));
addEventListener("blur", () => page.controls?.letGo());
document.addEventListener("visibilitychange", () => { if (document.hidden) { page.controls?.letGo(); send("run", { on: false }); } });

let stored = null;
try { stored = localStorage.getItem("theme"); } catch { /* no storage */ }
setTheme(stored ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark"), false);
setInterval(figures, 250);
connect();
