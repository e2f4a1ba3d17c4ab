"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  // Text of others enters the page as text only: nothing here writes markup.
  const el = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") node.addEventListener(name, value);
      else if (value !== null) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };
  let parsed = null;
  const data = () => (parsed ??= JSON.parse($("#data").textContent));

  const board = $(".board"), form = $(".filters"), panel = $("#panel");
  const rows = $$("tbody tr", board), heads = $$("thead th", board);
  const keys = heads.map((head) => head.dataset.key);
  const cellOf = (row, key) => row.cells[heads[keys.indexOf(key)].cellIndex];
  const textOf = (row, key) => cellOf(row, key).textContent.trim();

  // The state: filters, order and what is open. It lives behind the #, so that an address can be sent to somebody.
  const NAMES = ["dataset", "arm", "method", "sort", "dir", "cell", "run"];
  let state = {};
  const read = () => {
    const text = location.hash.slice(1);
    if (text && !text.includes("=")) return; // a place on the page, no state
    const given = new URLSearchParams(text);
    state = Object.fromEntries(NAMES.filter((name) => given.get(name)).map((name) => [name, given.get(name)]));
  };
  const change = (changes, keep = false) => {
    for (const [name, value] of Object.entries(changes)) value ? (state[name] = String(value)) : delete state[name];
    const address = "#" + new URLSearchParams(NAMES.filter((n) => state[n]).map((n) => [n, state[n]]));
    history[keep ? "pushState" : "replaceState"](null, "", address);
    apply();
  };

  const fits = (dataset, arm, method) =>
    (!state.dataset || dataset === state.dataset) && (!state.arm || arm === state.arm) &&
    (!state.method || method.toLowerCase().includes(state.method.toLowerCase()));
  const filter = () => {
    let shown = 0;
    for (const row of rows) {
      row.hidden = !fits(textOf(row, "dataset"), textOf(row, "arm"), textOf(row, "method"));
      shown += !row.hidden;
    }
    for (const part of $$(".mark, .line")) {
      const dataset = part.closest(".charts").dataset.dataset, { arm, method } = part.dataset;
      part.classList.toggle("dim", !fits(dataset, arm || state.arm, method));
    }
    $("output", form).textContent = `${shown} of ${rows.length} rows`;
    for (const name of ["dataset", "arm", "method"])
      if (form.elements[name].value !== (state[name] ?? "")) form.elements[name].value = state[name] ?? "";
  };
  const sort = () => {
    const place = keys.indexOf(state.sort), sign = state.dir === "desc" ? -1 : 1;
    heads.forEach((head, i) => head.setAttribute("aria-sort",
      i !== place ? "none" : sign > 0 ? "ascending" : "descending"));
    const value = (row) => {
      const cell = cellOf(row, state.sort);
      return "v" in cell.dataset ? Number(cell.dataset.v) : null;
    };
    const text = place >= 0 && !rows.some((row) => value(row) !== null);
    const order = place < 0 ? rows : rows.map((row, i) => [row, i]).sort(([a, i], [b, j]) => {
      if (text) return sign * textOf(a, state.sort).localeCompare(textOf(b, state.sort), "en") || i - j;
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null) || i - j; // what has no number goes last
      return sign * (x - y) || i - j;
    }).map(([row]) => row);
    const body = $("tbody", board); // rows that lie right are left alone: moving one takes the focus from it
    if (order.some((row, i) => body.rows[i] !== row)) body.append(...order);
  };
  const apply = () => { filter(); sort(); show(); };

  heads.forEach((head) => {
    const label = $("span", head), better = Number(head.dataset.better);
    head.setAttribute("aria-sort", "none");
    const button = el("button", { type: "button", click: () => {
      const first = better > 0 ? "desc" : "asc", second = first === "asc" ? "desc" : "asc";
      const now = state.sort !== head.dataset.key ? "" : state.dir ?? "asc";
      change(now === "" ? { sort: head.dataset.key, dir: first } : now === first ? { dir: second } : { sort: "", dir: "" });
    } }, label.textContent);
    label.replaceWith(button);
  });
  heads[keys.indexOf("arm")].after(el("th", { scope: "col" }, "Runs"));
  for (const row of rows) {
    const runs = data().cells[row.dataset.cell].runs["this arm"] ?? [];
    row.cells[keys.indexOf("arm")].after(el("td", {}, el("button", {
      type: "button", "aria-label": `Runs of ${data().cells[row.dataset.cell].title}`,
      click: () => change({ cell: String(row.dataset.cell), run: "" }, true),
    }, `${runs.length} run${runs.length === 1 ? "" : "s"}`)));
  }
  form.hidden = false;
  form.addEventListener("input", (event) => change({ [event.target.name]: event.target.value }));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => { event.preventDefault(); change({ dataset: "", arm: "", method: "" }); });

  // What is shown, as CSV: full numbers, intervals in columns of their own.
  const field = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const harmless = (value) => (/^[=+\-@\t]/.test(value) ? "'" + value : value); // no formula for a spreadsheet
  const csv = (table) => {
    const columns = $$("thead th[data-key]", table).map((head) => ({ key: head.dataset.key, at: head.cellIndex }));
    const shown = $$("tbody tr", table).filter((row) => !row.hidden);
    for (const column of columns) column.half = shown.some((row) => "h" in row.cells[column.at].dataset);
    const head = columns.flatMap(({ key, half }) => (half ? [key, `${key}_half_width`] : [key]));
    const lines = shown.map((row) => columns.flatMap(({ at, half }) => {
      const cell = row.cells[at], value = cell.dataset.v ?? harmless(cell.textContent.trim());
      return half ? [value, cell.dataset.h ?? ""] : [value];
    }));
    return [head, ...lines].map((line) => line.map(field).join(",")).join("\n") + "\n";
  };
  for (const table of $$("table[data-csv]")) {
    const name = table.dataset.csv;
    const button = el("button", { type: "button", class: "csv", "aria-label": `Save ${name} as CSV`, click: () => {
      const address = URL.createObjectURL(new Blob([csv(table)], { type: "text/csv" }));
      el("a", { href: address, download: `${name.replace(/[^\w.-]+/g, "_")}.csv` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 1000);
    } }, "Save as CSV");
    table.parentNode.after(button);
  }

  // The panel: the runs behind a row, and one run with all that its record says.
  const number = (value, digits = 5) => (value === null || value === undefined ? "–"
    : Number.isInteger(value) ? value.toLocaleString("en") : Number(value.toPrecision(digits)).toString());
  const primary = (score) => score.metrics.auc ?? score.metrics.r2 ?? null;
  const facts = (pairs) => el("dl", {}, ...pairs.filter(([, value]) => value !== undefined && value !== null && value !== "")
    .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  const grid = (label, head, body) => el("div", { class: "wide", role: "region", tabindex: "0", "aria-label": label },
    el("table", {}, el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, ...body.map((cells) => el("tr", {}, ...cells.map((cell) => el("td", {}, cell)))))));
  // Ids of runs in a text, whole or their first eight digits, become links; which run is meant is looked up when asked.
  const ID = /\b[0-9a-f]{8}(?:[0-9a-f]{8})?\b/;
  const idLink = (text) => el("button", { type: "button", class: "link", click: () => {
    const found = Object.keys(data().runs).find((id) => id.startsWith(text));
    if (found) change({ run: found }, true);
  } }, text);
  const linkIds = (node) => {
    if (node.childElementCount || !ID.test(node.textContent)) return;
    const parts = node.textContent.split(/\b([0-9a-f]{8}(?:[0-9a-f]{8})?)\b/);
    node.replaceChildren(...parts.map((part, at) => (at % 2 ? idLink(part) : part)));
  };
  const runLink = (id) => el("button", { type: "button", class: "link", click: () => change({ run: id }, true) }, id);
  const text = (value) => el("pre", { tabindex: "0" }, typeof value === "string" ? value : JSON.stringify(value, null, 1));

  const cellPanel = (found) => {
    const parts = [];
    for (const [role, ids] of Object.entries(found.runs)) {
      const runs = ids.map((id) => [id, data().runs[id]]);
      const tasks = [...new Set(runs.flatMap(([, run]) => Object.keys(run.scores ?? {})))];
      parts.push(el("h3", {}, role === "this arm" ? "This row's runs" : role === "stage 0" ? "Before the new task (stage 0)" : "Reference: single-task model"),
        grid(role, ["seed", "status", ...tasks, "seconds", "run"], runs.map(([id, run]) => [
          String(run.key.seed), run.status + (run.stale ? ", stale" : ""),
          ...tasks.map((task) => (run.scores?.[task] ? number(primary(run.scores[task])) : "–")),
          number(run.seconds?.total, 3), runLink(id)])));
    }
    return parts;
  };
  const runPanel = (id, run) => {
    const key = run.key, shared = data().shared, from = shared[run.from] ?? {}, parts = [];
    parts.push(facts([
      ["status", run.status + (run.reason ? `: ${run.reason}` : "")], ["stale", run.stale],
      ["tasks trained", key.tasks.join(", ")], ["seed", String(key.seed)],
      ["kept epoch", run.selection && `${run.selection.epoch} of ${run.selection.epochs_run} (${run.selection.rule}: ${number(run.selection.score)})`],
      ["parameters", run.params && `${number(run.params.total)}, trained ${number(run.params.trainable)}`],
      ["FLOPs per row", run.flops && `forward ${number(run.flops.forward)}, training step ${number(run.flops.training_step)}`],
      ["peak memory", run.peak_memory_bytes && `${number(Math.round(run.peak_memory_bytes / 2 ** 20))} MiB`],
      ["checked", run.invariants && Object.entries(run.invariants).map(([name, good]) => `${name}: ${good ? "holds" : "BROKEN"}`).join(", ")],
      ["continues", run.parent && (data().runs[run.parent] ? runLink(run.parent) : run.parent)],
      ["on the command line", el("code", {}, `python run_all.py show ${id} --out DIR`)]]));
    if (run.warnings) parts.push(el("h3", {}, "Warnings"), el("ul", {}, ...run.warnings.map((line) => el("li", {}, line))));
    const scores = Object.entries(run.scores ?? {}), metrics = [...new Set(scores.flatMap(([, s]) => Object.keys(s.metrics)))];
    if (scores.length) parts.push(el("h3", {}, "Test scores"), grid("Test scores", ["task", "rows", "positives", ...metrics],
      scores.map(([task, s]) => [task, number(s.n), number(s.positives), ...metrics.map((m) =>
        (s.metrics[m] === null || s.metrics[m] === undefined ? s.reasons?.[m] ?? "–" : number(s.metrics[m], 6)))])));
    if (run.curve) parts.push(el("details", {}, el("summary", {}, `Learning curve (${run.curve.length} epochs)`), grid("Learning curve",
      ["epoch", "loss", "validation"], run.curve.map((epoch) => [String(epoch.epoch),
        Object.entries(epoch.loss).map(([name, value]) => `${name} ${number(value)}`).join(", "),
        Object.entries(epoch.validation).map(([task, s]) => `${task} ${number(s.auc ?? s.r2 ?? null)}`).join(", ")]))));
    if (run.seconds) parts.push(el("h3", {}, "Seconds"), facts(Object.entries(run.seconds).map(([name, value]) => [name.replaceAll("_", " "), number(value, 3)])));
    parts.push(el("h3", {}, "Configuration"), text({ config: shared[key.config] ?? {}, arm: shared[key.arm_config] ?? {}, budget: shared[key.budget] ?? {} }));
    if (run.log_tail) parts.push(el("h3", {}, "Last lines of its log"), text(run.log_tail.join("\n")));
    if (run.from !== undefined) parts.push(el("h3", {}, "Origin"), facts([...Object.entries(from), ...Object.entries(run.origin ?? {})].map(([name, value]) =>
      [name.replaceAll("_", " "), value !== null && typeof value === "object" ? Object.entries(value).map((pair) => pair.join(" ")).join(", ") : String(value)])));
    return parts;
  };
  let opener = null;
  const show = () => {
    const run = state.run && data().runs[state.run], cell = state.cell && data().cells[state.cell];
    if (!run && !cell) { if (panel.open) panel.close(); return; }
    const key = run && run.key;
    $("#panel-title").textContent = run ? `${key.dataset}, ${key.method}, ${key.arm}, seed ${key.seed}` : cell.title;
    const back = run && cell ? el("button", { type: "button", click: () => change({ run: "" }, true) }, "Back to all seeds") : null;
    $("#panel-body").replaceChildren(...[back, ...(run ? runPanel(state.run, run) : cellPanel(cell))].filter(Boolean));
    if (!panel.open) { opener = document.activeElement; panel.showModal(); }
    panel.scrollTop = 0;
  };
  panel.addEventListener("close", () => {
    if (state.run || state.cell) change({ run: "", cell: "" }, true);
    opener?.focus?.();
  });
  $(".close", panel).addEventListener("click", () => panel.close());
  panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });
  for (const code of $$("code[data-run]")) code.replaceWith(runLink(code.dataset.run));
  for (const node of $$(".ids")) linkIds(node);
  for (const head of $$("th[data-key=evidence]"))
    for (const row of head.closest("table").tBodies[0].rows) linkIds(row.cells[head.cellIndex]);

  // Pictures: what a mark says appears beside the pointer; a click opens its runs.
  const tip = $("#tip");
  for (const mark of $$(".mark")) {
    const title = $("title", mark), said = title.textContent;
    title.remove();
    mark.addEventListener("pointermove", (event) => {
      tip.textContent = said;
      tip.hidden = false;
      const { width, height } = tip.getBoundingClientRect();
      tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
      tip.style.top = `${event.clientY + height + 24 > innerHeight ? event.clientY - height - 10 : event.clientY + 16}px`;
    });
    mark.addEventListener("pointerleave", () => { tip.hidden = true; });
    mark.addEventListener("click", () => {
      const dataset = mark.closest(".charts").dataset.dataset;
      const row = rows.find((r) => textOf(r, "dataset") === dataset && textOf(r, "method") === mark.dataset.method &&
        (!mark.dataset.arm || textOf(r, "arm") === mark.dataset.arm));
      if (row) change({ cell: row.dataset.cell, run: "" }, true);
    });
  }

  addEventListener("hashchange", () => { read(); apply(); });
  addEventListener("popstate", () => { read(); apply(); });
  let opened = [];
  addEventListener("beforeprint", () => { opened = $$("details:not([open])").filter((part) => !part.closest(".chart")); for (const part of opened) part.open = true; });
  addEventListener("afterprint", () => { for (const part of opened) part.open = false; });
  read();
  apply();
})();
