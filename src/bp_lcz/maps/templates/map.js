"use strict";
(async () => {
  const element = (id) => document.getElementById(id);
  const facts = JSON.parse(element("facts").textContent);
  const { rows, columns, width, height, cell, zones } = facts;
  const count = rows * columns;

  const make = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  // One unit of the map is one metre, counted from the south-west corner.
  const bounds = [[0, 0], [height, width]];
  const map = L.map("map", { crs: L.CRS.Simple, zoomSnap: 0.25, zoomDelta: 0.5, minZoom: -12, maxZoom: 0.5, maxBoundsViscosity: 0.6 });
  map.attributionControl.setPrefix("Leaflet").addAttribution("Copernicus Sentinel data");
  L.control.scale({ imperial: false, maxWidth: 120, position: "topleft" }).addTo(map);
  map.fitBounds(bounds);
  map.setMinZoom(map.getZoom() - 1.5).setMaxBounds(L.latLngBounds(bounds).pad(0.5));
  L.imageOverlay(`data:image/webp;base64,${element("picture").textContent}`, bounds, { className: "picture" }).addTo(map);

  let cells;
  try {
    const packed = Uint8Array.from(atob(element("cells").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    cells = new Uint8Array(await new Response(stream).arrayBuffer());
  } catch (error) {
    element("cell").replaceChildren(make("p", "hint", `This browser cannot unpack the zones (${error.message}); one of 2023 or later can.`));
    return;
  }
  const plane = (number) => cells.subarray(number * count, (number + 1) * count);
  const [lcz, reason] = [plane(0), plane(1)];

  const canvas = Object.assign(make("canvas"), { width: columns, height: rows });
  const context = canvas.getContext("2d");
  const colours = zones.map(([, , colour]) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
  // Black over a dark forest cannot be seen.
  const black = 1 + zones.findIndex(([, , colour]) => colour === "#000000");
  const hairline = L.polyline([], { className: "hairline", interactive: false });
  const edgesOf = (isDrawn) => {
    const is = (row, column) => row >= 0 && row < rows && column >= 0 && column < columns && isDrawn(row * columns + column);
    const corner = (row, column) => [height - row * cell, column * cell];
    const edges = [];
    for (let row = 0; row <= rows; row++) {
      for (let column = 0; column <= columns; column++) {
        if (is(row, column) !== is(row - 1, column)) edges.push([corner(row, column), corner(row, column + 1)]);
        if (is(row, column) !== is(row, column - 1)) edges.push([corner(row, column), corner(row + 1, column)]);
      }
    }
    return edges;
  };
  const paint = (isShown) => {
    const image = context.createImageData(columns, rows);
    for (let i = 0; i < count; i++) {
      if (!lcz[i]) continue;
      image.data.set(colours[lcz[i] - 1], 4 * i);
      image.data[4 * i + 3] = isShown(i) ? 255 : 30;
    }
    context.putImageData(image, 0, 0);
    hairline.setLatLngs(edgesOf((i) => lcz[i] === black && isShown(i)));
  };
  const Zones = L.ImageOverlay.extend({
    _initImage() {
      this._image = canvas;
      canvas.className = "leaflet-image-layer leaflet-zoom-animated zones";
    },
  });
  // The last row and column of a thinned map reach beyond its edge.
  const overlay = new Zones("", [[height - rows * cell, 0], [height, columns * cell]]).addTo(map);
  const all = () => true;
  paint(all);

  const slider = document.querySelector("#blend input");
  const blend = () => {
    const pixels = cell * map.getZoomScale(map.getZoom(), 0);
    overlay.setOpacity(slider.value / 100);
    hairline.setStyle({ opacity: slider.value / 100, weight: Math.min(pixels / 10, 1.5) });
    if (pixels < 4) hairline.remove(); // of a whole tile it would cost seconds, and hide the cells
    else hairline.addTo(map);
  };
  slider.addEventListener("input", blend);
  map.on("zoomend", blend);
  blend();

  const buttons = [...document.querySelectorAll("#legend button, #reasons button")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const isOn = button.getAttribute("aria-pressed") !== "true";
      for (const other of buttons) other.setAttribute("aria-pressed", String(isOn && other === button));
      const { zone, reason: why } = button.dataset;
      paint(!isOn ? all : zone ? (i) => lcz[i] === Number(zone) : (i) => reason[i] === Number(why));
    });
  }

  const between = (values, x, y) => {
    const last = values.length - 1;
    const [i, j] = [y, x].map((at) => Math.min(Math.floor(at * last), last - 1));
    const [v, u] = [y * last - i, x * last - j];
    const along = (row) => row[j] * (1 - u) + row[j + 1] * u;
    return along(values[i]) * (1 - v) + along(values[i + 1]) * v;
  };
  const place = ({ lat, lng }) => {
    const [x, y] = [lng / width, 1 - lat / height];
    const degrees = [["north", "N", "S"], ["east", "E", "W"]].map(([key, plus, minus]) => {
      const value = between(facts.degrees[key], x, y);
      return `${Math.abs(value).toFixed(5)}° ${value < 0 ? minus : plus}`;
    });
    const metres = [facts.west + lng, facts.north - height + lat].map((value) => Math.floor(value).toLocaleString("en"));
    return [degrees.join(" "), `E ${metres[0]} N ${metres[1]} m, ${facts.crs}`];
  };

  const zoneLine = (number, percent) => {
    const [code, name, colour] = zones[number - 1];
    const line = make("tr");
    const swatch = make("i");
    swatch.style.background = colour;
    const label = make("td", "code");
    label.append(swatch, code);
    const bar = make("span", "bar");
    bar.style.width = `${percent}%`;
    bar.style.background = colour;
    const middle = make("td", "", name);
    middle.append(bar);
    line.append(label, middle, make("td", "number", `${percent} %`));
    return line;
  };
  const describe = (at) => {
    if (!lcz[at]) return [make("p", "title", "No zone"), make("p", "", facts.reasons[reason[at]] ?? "")];
    const [code, name, colour] = zones[lcz[at] - 1];
    const title = make("p", "title");
    const swatch = make("i");
    swatch.style.background = colour;
    title.append(swatch, `${code} ${name}`);
    const table = make("table");
    for (let rank = 0; rank < facts.shown; rank++) {
      const [number, percent] = [2, 3].map((first) => plane(first + 2 * rank)[at]);
      if (number) table.append(zoneLine(number, percent));
    }
    const unlike = reason[at] === facts.unlike ? [make("p", "warning", "Unlike the training data: a guess")] : [];
    return [title, ...unlike, table];
  };

  const outline = L.rectangle(bounds, { className: "outline", interactive: false, fill: false });
  const show = ({ latlng }) => {
    const [row, column] = [Math.floor((height - latlng.lat) / cell), Math.floor(latlng.lng / cell)];
    const isInside = latlng.lat > 0 && latlng.lat <= height && latlng.lng >= 0 && latlng.lng < width;
    if (!isInside || row >= rows || column >= columns) return;
    const top = height - row * cell;
    outline.setBounds([[top - cell, column * cell], [top, (column + 1) * cell]]).addTo(map);
    const lines = place(latlng).map((text) => make("p", "small", text));
    element("cell").replaceChildren(...describe(row * columns + column), ...lines);
  };
  map.on("mousemove click", show);
  map.getContainer().dataset.ready = "true";
})();
