// Turns the still picture of every structure on the page into a view that can be turned, with forces as arrows.
// The library is on the page, compressed; it is unpacked when the first structure scrolls into view. Where WebGL,
// decompression or anything else is missing the picture stays, and a line below it says why.
"use strict";
(() => {
  const figures = [...document.querySelectorAll("figure.scene")];
  const LEAST_ARROW = 0.08; // Å; shorter ones are all head
  const CELL = "#8a94a3";

  const say = (figure, text) => {
    figure.querySelector(".scene-note").textContent = text;
  };

  const hasWebGL = () => {
    const canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  };

  let library = null;
  const loadLibrary = () => {
    library ??= (async () => {
      const packed = atob(document.getElementById("viewer-library").textContent.trim());
      const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      const script = document.createElement("script");
      script.textContent = await new Response(stream).text();
      document.head.append(script);
      return window.$3Dmol;
    })();
    return library;
  };

  const point = ([x, y, z]) => ({ x, y, z });

  const addAtoms = (viewer, data) => {
    const bonds = data.symbols.map(() => []);
    for (const [i, j] of data.bonds) {
      bonds[i].push(j);
      bonds[j].push(i);
    }
    viewer.addModel().addAtoms(
      data.symbols.map((elem, k) => ({
        elem,
        ...point(data.positions[k]),
        bonds: bonds[k],
        bondOrder: bonds[k].map(() => 1),
      })),
    );
    for (const [elem, look] of Object.entries(data.elements)) {
      const { color, radius } = look;
      viewer.setStyle({ elem }, { sphere: { radius, color }, stick: { radius: 0.09, color } });
    }
  };

  const addCell = (viewer, edges) => {
    const shape = viewer.addShape({ color: CELL });
    for (const [start, end] of edges) shape.addCylinder({ start: point(start), end: point(end), radius: 0.03 });
  };

  // Sideways in Å: equal arrows of the first two sets lie beside each other.
  const ASIDE = [-0.09, 0.09, 0, 0];
  const aside = ([x, y]) => {
    const length = Math.hypot(x, y);
    return length > 1e-6 ? [y / length, -x / length, 0] : [1, 0, 0];
  };

  const addArrows = (viewer, data, shown, length) => {
    data.forces.forEach((set, index) => {
      if (!shown[index]) return;
      const shape = viewer.addShape({ color: set.color });
      set.values.forEach((force, k) => {
        const arrow = force.map((component) => component * set.magnified * length);
        if (Math.hypot(...arrow) < LEAST_ARROW) return;
        const across = aside(data.forces[0].values[k]);
        const start = data.positions[k].map((coordinate, axis) => coordinate + ASIDE[index] * across[axis]);
        shape.addArrow({
          start: point(start),
          end: point(start.map((coordinate, axis) => coordinate + arrow[axis])),
          radius: 0.08,
          mid: 0.72,
        });
      });
    });
  };

  // The page scrolls with the wheel until the reader has clicked into the view, and again when the pointer leaves.
  const keepScrolling = (stage) => {
    let active = false;
    stage.addEventListener("pointerdown", () => (active = true), true);
    stage.addEventListener("pointerleave", () => (active = false));
    stage.addEventListener("wheel", (event) => active || event.stopPropagation(), { capture: true, passive: true });
  };

  const control = (figure, viewer, data, redraw) => {
    const actions = {
      left: () => viewer.rotate(-20, "y"),
      right: () => viewer.rotate(20, "y"),
      up: () => viewer.rotate(-20, "x"),
      down: () => viewer.rotate(20, "x"),
      closer: () => viewer.zoom(1.25),
      farther: () => viewer.zoom(0.8),
      reset: () => viewer.setView(figure.view),
    };
    for (const button of figure.querySelectorAll("button[data-action]")) {
      button.addEventListener("click", () => {
        actions[button.dataset.action]();
        viewer.render();
      });
    }
    for (const input of figure.querySelectorAll("input")) input.addEventListener("input", redraw);
    figure.querySelector(".scene-controls").hidden = false;
  };

  const start = async (figure) => {
    const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const stage = figure.querySelector(".scene-stage");
    const place = document.createElement("div");
    place.className = "scene-canvas";
    stage.append(place);
    const library = await loadLibrary();
    const viewer = library.createViewer(place, { backgroundAlpha: 0, antialias: true, disableFog: true });
    if (!viewer) throw new Error("the viewer did not start");
    place.querySelector("canvas").setAttribute("aria-hidden", "true"); // the stage has the words
    viewer.setBackgroundColor(0, 0);
    addAtoms(viewer, data);
    const redraw = () => {
      const boxes = [...figure.querySelectorAll("input[type='checkbox']")];
      const slider = figure.querySelector("input[type='range']");
      viewer.removeAllShapes();
      addCell(viewer, data.edges);
      addArrows(viewer, data, boxes.map((box) => box.checked), slider ? data.scale * 2 ** slider.valueAsNumber : 0);
      viewer.render();
    };
    redraw();
    viewer.zoomTo();
    viewer.rotate(-80, "x");
    viewer.rotate(15, "y");
    // The library fits a sphere around everything; what is wider than high has room to spare.
    viewer.zoom(Math.min(Math.max(0.25 + (0.7 * place.clientWidth) / place.clientHeight, 0.9), 1.2));
    viewer.render();
    figure.view = viewer.getView();
    keepScrolling(stage);
    control(figure, viewer, data, redraw);
    stage.classList.add("live");
    say(figure, "Drag to turn; click, then scroll to zoom.");
  };

  const attempt = (figure) => {
    if (!hasWebGL()) {
      say(figure, "This is a still picture: the browser offers no WebGL, which the turning view needs.");
      return;
    }
    start(figure).catch((error) => {
      figure.querySelector(".scene-canvas")?.remove();
      say(figure, `This is a still picture: the turning view did not start (${error.message}).`);
    });
  };

  const watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((one) => one.isIntersecting)) {
        watcher.unobserve(entry.target);
        attempt(entry.target);
      }
    },
    { rootMargin: "200px" },
  );
  figures.forEach((figure) => watcher.observe(figure));
})();
