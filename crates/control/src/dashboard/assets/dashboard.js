// Draws charts, copies keys, sends choices at once. Pages work without it.
(function () {
  "use strict";

  const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7"];

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  const UNITS = {
    count: (v) => v.toLocaleString("en"),
    ms: (v) => (v < 1000 ? Math.round(v) + " ms" : (v / 1000).toFixed(v < 10000 ? 1 : 0) + " s"),
    usd: (v) => "$" + (v / 1e6).toLocaleString("en", { maximumFractionDigits: v < 1e6 ? 4 : 2 }),
  };

  // Each series stands on those before it.
  function stack(series) {
    const sums = [];
    return series.map((values) =>
      values.map((value, at) => (sums[at] = (sums[at] || 0) + (value || 0))));
  }

  function draw(box) {
    const told = JSON.parse(box.dataset.chart);
    const say = UNITS[told.unit];
    const raw = told.series.map((one) => one.values);
    // Drawn from the top of the pile down, so that each covers the lower part of the one before.
    const drawn = told.stacked ? stack(raw).reverse() : raw;
    const order = told.series.map((_, at) => (told.stacked ? told.series.length - 1 - at : at));
    const ink = colour("--ink-soft");
    const grid = { stroke: colour("--line"), width: 1 };
    const step = told.times.length > 1 ? told.times[1] - told.times[0] : 60;
    const day = step >= 86400;
    const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(day ? 5 : 11, day ? 10 : 16);
    const axis = { stroke: ink, grid: grid, ticks: grid, font: "12px system-ui, sans-serif" };
    const series = order.map((at) => ({
      label: told.series[at].label,
      stroke: colour(COLOURS[at % COLOURS.length]),
      fill: told.stacked ? colour(COLOURS[at % COLOURS.length]) : undefined,
      width: told.stacked ? 1 : 2,
      spanGaps: false,
      // Values that stand alone are no line: they are points.
      points: { show: !told.stacked, size: 5, width: 1.5 },
      paths: told.stacked ? uPlot.paths.bars({ size: [0.9, 40], gap: 1 }) : undefined,
      value: (_, value, __, place) => {
        const own = place === null ? null : raw[at][place];
        return own === null || own === undefined ? "–" : say(own);
      },
    }));
    const options = {
      width: Math.max(box.clientWidth, 240),
      height: 220,
      legend: { live: true },
      cursor: { drag: { x: false, y: false } },
      scales: {
        // Room for half a bar at both ends.
        x: { range: (_, low, high) => (told.stacked ? [low - step * 0.6, high + step * 0.6] : [low, high]) },
        y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] },
      },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      axes: [
        Object.assign({ values: (_, marks) => marks.map(clock) }, axis),
        Object.assign({ size: 64, values: (_, marks) => marks.map(say) }, axis),
      ],
      series: [{ value: (_, v) => (v === null ? "–" : new Date(v * 1000).toISOString().slice(0, 16).replace("T", " ")) }].concat(series),
    };
    const plot = new uPlot(options, [told.times].concat(drawn), box);
    box.plot = plot;
  }

  function drawAll(root) {
    root.querySelectorAll("[data-chart]").forEach((box) => {
      if (!box.plot) draw(box);
    });
  }

  function again() {
    document.querySelectorAll("[data-chart]").forEach((box) => {
      if (box.plot) {
        box.plot.destroy();
        box.plot = null;
      }
      draw(box);
    });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const field = document.querySelector(button.dataset.copy);
    field.select();
    // Without TLS there is no clipboard: the key is selected, and a shortcut copies it.
    if (navigator.clipboard) {
      navigator.clipboard.writeText(field.value).then(() => {
        button.textContent = "Copied";
      }, () => {});
    }
  });

  // What a file says, as if it had been typed.
  document.addEventListener("change", (event) => {
    const picked = event.target.closest("input[type=file][data-into]");
    if (!picked || !picked.files.length) return;
    picked.files[0].text().then((text) => {
      document.querySelector(picked.dataset.into).value = text;
    });
  });

  // One open at a time, and Escape closes it.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    document.querySelectorAll("details.action[open]").forEach((one) => {
      one.open = false;
      one.querySelector("summary").focus();
    });
  });

  document.addEventListener("htmx:load", (event) => drawAll(event.detail.elt));
  document.addEventListener("DOMContentLoaded", () => drawAll(document));

  // The server says when something has changed; without that, parts ask every ten seconds. With
  // it, they ask by themselves only after a minute: what another replica saw is not said here.
  const QUIET = 60000;
  let source = null;
  let asked = Date.now();

  function refresh() {
    asked = Date.now();
    document.querySelectorAll("[data-live]").forEach((part) => htmx.trigger(part, "live"));
  }

  function listen() {
    const part = document.querySelector("[data-live]");
    if (!part || source || document.hidden || !window.EventSource) return;
    const opened = new EventSource(part.dataset.live);
    source = opened;
    opened.addEventListener("changed", refresh);
    // The next question leads to the sign-in page.
    opened.addEventListener("ended", () => { hush(); refresh(); });
    opened.addEventListener("error", () => {
      if (opened.readyState !== EventSource.CLOSED || source !== opened) return;
      source = null;
      setTimeout(listen, QUIET);
    });
  }

  function hush() {
    if (source) source.close();
    source = null;
  }

  document.addEventListener("htmx:configRequest", (event) => {
    if ("live" in event.detail.elt.dataset) event.detail.headers["partywall-by-itself"] = "1";
  });
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (!("live" in event.detail.elt.dataset)) return;
    const cause = event.detail.requestConfig.triggeringEvent;
    const isTold = cause && cause.type === "live";
    const isListening = source && source.readyState === EventSource.OPEN;
    if (document.hidden || (!isTold && isListening && Date.now() - asked < QUIET)) {
      event.preventDefault();
    } else if (!isTold) {
      asked = Date.now();
    }
  });
  // A browser has six connections to one place: a page that nobody looks at needs none.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      hush();
    } else if (document.querySelector("[data-live]")) {
      refresh();
      listen();
    }
  });
  document.addEventListener("DOMContentLoaded", listen);

  let waiting;
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(again, 150);
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
})();
