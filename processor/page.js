"use strict";
// Plays the clips of the page: `content` is what processor/page.py makes of them.
(function () {
  const content = JSON.parse(document.getElementById("content").textContent);
  const NOT_THERE = content.not_there;
  // Frames a second of a clip that does not say.
  const USUAL_RATE = 30;
  // How long a scene may keep rotating after the mouse button is released, in ms.
  const COASTING = 250;
  const BACKGROUND = [255, 255, 255];
  const QUIET = { displayModeBar: false, responsive: true };
  const element = (id) => document.getElementById(id);
  // Plotly reads some characters of a name as HTML tags.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  let clip = null; // the one that is shown, decoded
  let shown = 0; // its frame, counted among those that the page has
  let held = false; // whether the mouse is rotating the scene
  let playing = null; // {since, from}: when and at which frame playing began

  function decode(coded) {
    const bytes = Uint8Array.from(atob(coded.data), (letter) => letter.charCodeAt(0));
    return { ...coded, whole: new Int16Array(bytes.buffer) };
  }

  // The value at an index of the decoded numbers; NaN where a joint is missing.
  function valueAt(numbers, index) {
    const whole = numbers.whole[index];
    const size = numbers.origin.length;
    return whole === NOT_THERE ? NaN : numbers.origin[index % size] + numbers.step * whole;
  }

  // The scene is right-handed and its third axis is up, so the axes are permuted. A pose in the picture stands upright in
  // it, and is seen from the side on which x points to the right.
  function axesOf(clip) {
    if (clip.flat) return { order: [-1, 0, 1], sign: [0, -1, -1], names: ["", "x", "y"] };
    const order = [(clip.up + 1) % 3, (clip.up + 2) % 3, clip.up];
    return { order, sign: [1, 1, 1], names: order.map((axis) => "xyz"[axis]) };
  }

  // The view of the camera: from the near end of the depth axis, far enough away for everything to be visible. Depth is
  // the scene's first axis if y is up, and else the second.
  function frontView(clip) {
    const { x, y, z } = clip.aspect;
    const depthFirst = clip.flat || clip.up === 1;
    const [depth, width] = depthFirst ? [x, y] : [y, x];
    const distance = depth / 2 + Math.max(1.45 * z, 0.9 * width);
    return {
      eye: { x: depthFirst ? -distance : 0, y: depthFirst ? 0 : -distance, z: clip.flat ? 0 : 0.15 * distance },
      up: { x: 0, y: 0, z: 1 }, center: { x: 0, y: 0, z: 0 },
      projection: { type: clip.flat ? "orthographic" : "perspective" },
    };
  }

  function open(number) {
    const source = content.clips[number];
    const positions = decode(source.positions);
    clip = {
      ...source, positions, flat: positions.shape[3] === 2,
      confidence: source.confidence && decode(source.confidence),
      values: source.probability && decode(source.probability.values),
      skeleton: content.skeletons[source.skeleton],
      rate: (source.frame_rate || USUAL_RATE) / source.every,
    };
    clip.axes = axesOf(clip);
    shown = 0;
    playing = playing && { since: performance.now(), from: 0 };
    element("frame").max = positions.shape[0] - 1;
    element("name").textContent = clip.name;
    const skipped = clip.every > 1 ? `, every ${clip.every}th frame` : "";
    element("about").textContent = clip.title + skipped;
    for (const button of document.querySelectorAll("#clips button")) {
      button.setAttribute("aria-current", String(Number(button.dataset.number) === number));
    }
    drawLegend();
    drawTimeline();
    return drawScene();
  }

  function rgb(colour, opacity) {
    return "rgb(" + colour.map((part, k) => Math.round(opacity * part + (1 - opacity) * BACKGROUND[k])).join(",") + ")";
  }

  // Bones and joints of a frame, as two traces.
  function traces(frame) {
    const [, numBody, numJoint, size] = clip.positions.shape;
    const { order, sign } = clip.axes;
    const { bones, sides } = clip.skeleton;
    const line = { x: [], y: [], z: [], color: [] };
    const mark = { x: [], y: [], z: [], color: [] };
    for (let body = 0; body < numBody; body++) {
      const first = (frame * numBody + body) * numJoint;
      const colours = clip.palette[body % clip.palette.length];
      const sure = (joint) => (clip.confidence ? valueAt(clip.confidence, first + joint) : 1);
      const opacity = (value) => content.faintest + (1 - content.faintest) * value;
      const there = (joint) => clip.positions.whole[(first + joint) * size] !== NOT_THERE;
      const place = (joint, to, colour) => {
        const at = (axis) => (order[axis] < 0 ? 0 : sign[axis] * valueAt(clip.positions, (first + joint) * size + order[axis]));
        to.x.push(at(0));
        to.y.push(at(1));
        to.z.push(at(2));
        to.color.push(colour);
      };
      bones.forEach(([joint, parent], bone) => {
        if (!there(joint) || !there(parent)) return;
        const colour = rgb(colours[sides[bone]], opacity(Math.min(sure(joint), sure(parent))));
        place(joint, line, colour);
        place(parent, line, colour);
        line.x.push(null); // a gap before the next bone
        line.y.push(null);
        line.z.push(null);
        line.color.push(colour);
      });
      for (let joint = 0; joint < numJoint; joint++) {
        if (there(joint)) place(joint, mark, rgb(colours[0], opacity(sure(joint))));
      }
    }
    return [line, mark];
  }

  function drawScene() {
    const [line, mark] = traces(0);
    const { order, sign, names } = clip.axes;
    const axis = (k) => {
      const ends = order[k] < 0 ? [-1, 1] : [clip.positions.low, clip.positions.high].map((end) => sign[k] * end[order[k]]);
      return [Math.min(...ends), Math.max(...ends)];
    };
    const ranges = [0, 1, 2].map(axis);
    const widest = Math.max(...ranges.map(([low, high], k) => (order[k] < 0 ? 0 : high - low)), 1e-6);
    const layout = { margin: { l: 0, r: 0, t: 0, b: 0 }, showlegend: false, uirevision: clip.name, hovermode: false };
    const scene = { aspectmode: "manual", aspectratio: {}, dragmode: clip.flat ? "pan" : "turntable" };
    ["x", "y", "z"].forEach((name, k) => {
      // A flat scene is made thick enough to rotate.
      const half = Math.max((ranges[k][1] - ranges[k][0]) / 2 + 0.05 * widest, 0.15 * widest);
      const middle = (ranges[k][0] + ranges[k][1]) / 2;
      scene.aspectratio[name] = (clip.flat ? 2.7 : 1.6) * half / widest;
      scene[name + "axis"] = {
        range: [middle - half, middle + half], autorange: false, visible: !clip.flat, showspikes: false,
        title: { text: names[k] }, nticks: 6, showbackground: k === 2, backgroundcolor: "#f2f2f2", gridcolor: "#ddd",
      };
    });
    clip.aspect = scene.aspectratio;
    scene.camera = frontView(clip);
    layout.scene = scene;
    const of = (points) => ({ type: "scatter3d", x: points.x, y: points.y, z: points.z, hoverinfo: "skip" });
    const data = [
      { ...of(line), mode: "lines", line: { width: 7, color: line.color } },
      { ...of(mark), mode: "markers", marker: { size: 3, color: mark.color, line: { width: 0 } } },
    ];
    tell();
    return Plotly.react("scene", data, layout, QUIET);
  }

  function drawLegend() {
    const legend = element("legend");
    legend.textContent = "";
    const numBody = clip.positions.shape[1];
    const most = Math.min(numBody, clip.palette.length);
    const named = new Set();
    for (let body = 0; body < most; body++) {
      const name = clip.bodies[body] || `body ${body + 1}`;
      if (named.has(name)) continue;
      named.add(name);
      const swatch = document.createElement("i");
      swatch.style.background = rgb(clip.palette[body][0], 1);
      legend.append(swatch, name);
    }
    legend.append((numBody > most ? ` and ${numBody - most} more` : "") + ". Dark: left side, light: right side." + (clip.confidence ? " Faint: low confidence." : ""));
    legend.append(clip.flat ? "" : " Drag to turn, scroll to come nearer.");
  }

  function timeOf(frame) {
    return clip.frame_rate ? (frame * clip.every) / clip.frame_rate : frame * clip.every;
  }

  function drawTimeline() {
    element("timeline").hidden = !clip.values;
    if (!clip.values) return;
    const [numFrame, numClass] = clip.values.shape;
    const times = Array.from({ length: numFrame }, (_, frame) => timeOf(frame));
    const data = clip.probability.classes.map((name, k) => ({
      type: "scatter", mode: numFrame > 1 ? "lines" : "markers", name: plain(name), x: times,
      y: times.map((_, frame) => valueAt(clip.values, frame * numClass + k)),
    }));
    const mark = { type: "line", x0: timeOf(shown), x1: timeOf(shown), y0: 0, y1: 1, yref: "paper", line: { color: "#222", width: 1.5 } };
    const layout = {
      margin: { l: 50, r: 10, t: 10, b: 40 }, shapes: [mark], showlegend: true, hovermode: "x",
      xaxis: { title: { text: clip.frame_rate ? "seconds" : "frames" }, zeroline: false },
      yaxis: { title: { text: "probability" }, range: [-0.02, 1.02], fixedrange: true },
    };
    Plotly.react("timeline", data, layout, QUIET);
    if (!element("timeline").dataset.listens) {
      element("timeline").dataset.listens = "yes";
      element("timeline").on("plotly_click", (event) => seek(event.points[0].pointNumber));
    }
  }

  function tell() {
    element("frame").value = shown;
    const number = shown * clip.every;
    const seconds = clip.frame_rate ? `, ${(number / clip.frame_rate).toFixed(2)} s` : "";
    element("now").textContent = `frame ${number} of ${clip.num_frame}${seconds}`;
  }

  function show(frame) {
    shown = frame;
    tell();
    const [line, mark] = traces(frame);
    const both = (key) => [line[key], mark[key]];
    Plotly.restyle("scene", {
      x: both("x"), y: both("y"), z: both("z"), "line.color": [line.color, undefined], "marker.color": [undefined, mark.color],
    }, [0, 1]);
    if (clip.values) {
      Plotly.relayout("timeline", { "shapes[0].x0": timeOf(frame), "shapes[0].x1": timeOf(frame) });
    }
  }

  function seek(frame) {
    if (playing) playing = { since: performance.now(), from: frame };
    show(frame);
  }

  function play(on) {
    playing = on ? { since: performance.now(), from: shown } : null;
    element("play").textContent = on ? "Stop" : "Play";
    if (on) requestAnimationFrame(step);
  }

  function step(now) {
    if (!playing) return;
    // Drawing a frame would reset the scene to its rotation at the press of the mouse button.
    if (held) playing = { since: now, from: shown };
    const passed = Math.max(now - playing.since, 0) / 1000 * clip.rate * Number(element("speed").value);
    const frame = Math.floor(playing.from + passed) % clip.positions.shape[0];
    if (frame !== shown) show(frame);
    requestAnimationFrame(step);
  }

  // The scene keeps rotating for a moment after the mouse button is released, but Plotly stores the rotation at the
  // release only.
  function keepCamera() {
    held = false;
    Plotly.relayout("scene", { "scene.camera": element("scene")._fullLayout.scene._scene.getCamera() });
  }

  function listClips() {
    content.clips.forEach((each, number) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      const about = document.createElement("small");
      button.type = "button";
      button.dataset.number = number;
      button.textContent = each.name;
      about.textContent = each.title;
      button.append(about);
      button.addEventListener("click", () => open(number));
      item.append(button);
      element("clips").append(item);
    });
    element("filter").addEventListener("input", (event) => {
      const wanted = event.target.value.toLowerCase();
      for (const item of element("clips").children) item.hidden = !item.textContent.toLowerCase().includes(wanted);
    });
  }

  function listen() {
    let coasting = null;
    const hold = () => {
      clearTimeout(coasting);
      held = true;
    };
    const letGo = () => {
      clearTimeout(coasting);
      if (held) coasting = setTimeout(keepCamera, COASTING);
    };
    element("scene").addEventListener("pointerdown", hold, true);
    for (const kind of ["pointerup", "pointercancel"]) window.addEventListener(kind, letGo, true);
    // The browser does not report the end of scrolling: it has ended when no further event follows.
    element("scene").addEventListener("wheel", () => { hold(); letGo(); }, { capture: true, passive: true });
    element("play").addEventListener("click", () => play(!playing));
    element("frame").addEventListener("input", (event) => seek(Number(event.target.value)));
    element("front").addEventListener("click", () => Plotly.relayout("scene", { "scene.camera": frontView(clip) }));
    element("speed").addEventListener("change", () => seek(shown));
  }

  const places = content.figures.map((figure) => {
    const section = document.createElement("section");
    const heading = document.createElement("h2");
    const place = document.createElement("div");
    heading.textContent = figure.title;
    place.className = "figure";
    section.append(heading, place);
    if (figure.layout.height) {
      section.className = "wide";
      place.style.height = `${figure.layout.height}px`;
    }
    element("figures").append(section);
    return place;
  });

  // The figures come after the clips, which are looked at first. The width of a figure is known once all have their place.
  function ready() {
    content.figures.forEach((figure, number) => Plotly.newPlot(places[number], figure.data, figure.layout, QUIET));
    document.body.setAttribute("data-ready", "yes");
  }

  if (content.clips.length) {
    element("player").hidden = false;
    listClips();
    listen();
    open(0).then(() => setTimeout(ready)); // once the scene is painted
  } else {
    ready();
  }
})();
