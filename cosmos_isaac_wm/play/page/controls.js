// What is pressed, dragged or slid, as an action: deflections in [-1, 1] of a Box, or a choice from 0.

const KEYS = {
  ArrowLeft: [0, -1], KeyA: [0, -1], ArrowRight: [0, 1], KeyD: [0, 1],
  ArrowDown: [1, -1], KeyS: [1, -1], ArrowUp: [1, 1], KeyW: [1, 1],
};
const REACH = 48; // pixels from the middle of a stick to its end

export class Controls {
  constructor(described, changed, ready = () => true) {
    this.changed = changed; // called with the action, and the time of the event
    this.ready = ready; // whether what was told before has been answered
    this.rested(described);
  }

  // Nobody touches anything, which is what the server takes for granted of a driver who is new.
  rested(described = this.described) {
    this.described = described;
    this.held = new Set();
    this.gentle = false;
    this.drag = null; // of a pointer: deflections of the first two dimensions
    this.slid = new Array(described.count).fill(0);
    this.choice = 0;
    this.sent = JSON.stringify(this.action());
    this.build();
  }

  get discrete() { return this.described.kind === "discrete"; }

  action() {
    if (this.discrete) {
      for (const key of this.held) if (KEYS[key]?.[0] === 0) return KEYS[key][1] < 0 ? 0 : this.described.count - 1;
      return this.choice;
    }
    const by = this.slid.slice();
    for (const key of this.held) {
      const [dimension, sign] = KEYS[key];
      if (dimension < by.length) by[dimension] += sign * (this.gentle ? 0.4 : 1);
    }
    if (this.drag) for (let i = 0; i < Math.min(2, by.length); i++) by[i] = this.drag[i];
    return by.map((value) => Math.round(1000 * Math.max(-1, Math.min(1, value))) / 1000);
  }

  tell(when) {
    const now = this.action(), text = JSON.stringify(now);
    if (text === this.sent) return;
    this.sent = text;
    this.changed(now, when);
  }

  // Of many small movements the newest is told with the next picture: no more come than can be done.
  glide(when) {
    if (this.ready()) this.tell(when);
  }

  // Whether the key is one of ours.
  press(event) {
    this.gentle = event.shiftKey;
    if (this.discrete && /^Digit\d$/.test(event.code)) {
      const choice = Number(event.code.slice(5));
      if (choice < this.described.count && !event.repeat) this.choose(choice, event.timeStamp);
      return true;
    }
    const ours = event.code in KEYS;
    if (ours) this.held.add(event.code);
    if (ours && this.discrete && KEYS[event.code][0] === 0 && !event.repeat) this.sent = null; // as of `choose`
    this.tell(event.timeStamp); // Shift alone changes what is held
    return ours;
  }

  // A choice is sent though it is the last one again: it begins a dream, or takes the wheel back.
  choose(choice, when) {
    this.choice = choice;
    this.sent = null;
    this.tell(when);
    this.showChoice(choice);
  }

  release(event) {
    this.gentle = event.shiftKey;
    this.held.delete(event.code);
    this.tell(event.timeStamp);
  }

  letGo() {
    this.held.clear();
    this.drag = null;
    this.tell(performance.now());
  }

  // A pointer that is dragged on an element deflects, from where it was pressed or from the element's middle.
  draggable(element, fromMiddle) {
    let origin = null;
    const move = (event) => {
      let x = (event.clientX - origin[0]) / REACH, y = (origin[1] - event.clientY) / REACH;
      const far = Math.hypot(x, y);
      if (far > 1) { x /= far; y /= far; }
      this.drag = [x, y];
      this.glide(event.timeStamp);
    };
    element.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      const box = element.getBoundingClientRect();
      origin = fromMiddle ? [box.left + box.width / 2, box.top + box.height / 2] : [event.clientX, event.clientY];
      element.setPointerCapture(event.pointerId);
      if (fromMiddle) { move(event); this.tell(event.timeStamp); }
    });
    element.addEventListener("pointermove", (event) => { if (origin) move(event); });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      element.addEventListener(end, (event) => { if (origin) { origin = this.drag = null; this.tell(event.timeStamp); } });
    }
  }

  build() {
    const stick = document.getElementById("stick"), sliders = document.getElementById("sliders");
    const choices = document.getElementById("choices"), hint = document.getElementById("hint");
    sliders.replaceChildren();
    choices.replaceChildren();
    stick.hidden = this.discrete;
    stick.classList.toggle("flat", this.described.count === 1);
    if (this.discrete) {
      hint.textContent = "number keys, or ← and → for the first and last";
      this.described.names.forEach((name, choice) => {
        const button = document.createElement("button");
        button.textContent = name;
        button.setAttribute("aria-label", `Action ${name}`);
        button.addEventListener("click", (event) => this.choose(choice, event.timeStamp));
        choices.append(button);
      });
      this.showChoice(0);
      return;
    }
    hint.textContent = "arrow keys or WASD, or drag on the picture";
    for (let dimension = 2; dimension < this.described.count; dimension++) {
      const label = document.createElement("label"), slider = document.createElement("input");
      Object.assign(slider, { type: "range", min: -1, max: 1, step: 0.01, value: 0 });
      slider.setAttribute("aria-label", `Action ${this.described.names[dimension]}`);
      slider.addEventListener("input", (event) => { this.slid[dimension] = Number(slider.value); this.glide(event.timeStamp); });
      slider.addEventListener("dblclick", (event) => { this.slid[dimension] = slider.value = 0; this.tell(event.timeStamp); });
      label.append(this.described.names[dimension], slider);
      sliders.append(label);
    }
  }

  showChoice(choice) {
    document.querySelectorAll("#choices button").forEach((button, index) => button.setAttribute("aria-pressed", index === choice));
  }

  // What is being done, by whomever.
  show(action) {
    if (this.discrete) return this.showChoice(action ?? this.choice);
    const stick = document.getElementById("stick"), [x, y] = [action?.[0] ?? 0, action?.[1] ?? 0];
    stick.style.setProperty("--x", `${x * REACH}px`);
    stick.style.setProperty("--y", `${-y * REACH}px`);
  }
}
