// The ranking: filters and sorting over the rows of ranking.json; nothing is asked of another host.
(async () => {
  const place = document.getElementById("ranking-rows");
  if (!place) return;
  const rows = await (await fetch(place.dataset.source)).json();
  const filters = { dataset: "", task: "", track: "", arm: "", frozen: "", least: "5", q: "" };
  const hash = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(filters)) filters[key] = hash.get(key) ?? filters[key];
  let order = hash.get("sort") ?? "beaten", down = hash.get("up") === null;
  const columns = [
    ["method", "Method"], ["arm", "Strategy"], ["beaten", "Beaten, %"], ["gain", "Mean gain (AUC)"],
    ["degradation", "Worst degradation"], ["trained", "Trained parameters"], ["seconds", "Seconds"],
    ["problems", "Problems"], ["unfinished", "Unfinished, %"],
  ];
  const mean = (values) => {
    const known = values.filter((v) => v !== null && v !== undefined);
    return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
  };
  const base = (row) => row.dataset.split("@")[0];

  function byDataset(members, of) { // datasets weigh equally, and problems equally within a dataset
    const groups = {};
    for (const row of members) (groups[base(row)] ??= []).push(row);
    return mean(Object.values(groups).map((group) => mean(group.map(of))));
  }

  function aggregated() {
    const chosen = rows.filter((row) =>
      (!filters.dataset || base(row) === filters.dataset) && (!filters.task || row.task === filters.task) &&
      (!filters.track || row.track === filters.track) && (!filters.arm || row.arm === filters.arm) &&
      (!filters.frozen || String(row.frozen) === filters.frozen) &&
      (!filters.q || (row.method + " " + row.arm).toLowerCase().includes(filters.q.toLowerCase())));
    const groups = {};
    for (const row of chosen) (groups[row.method + "\u0000" + row.arm] ??= []).push(row);
    return Object.values(groups).map((members) => {
      const worst = members.map((row) => row.degradation).filter((v) => v !== null);
      return {
        method: members[0].method, arm: members[0].arm, members,
        beaten: 100 * byDataset(members, (row) => row.beaten), gain: byDataset(members, (row) => row.gain),
        degradation: worst.length ? Math.max(...worst) : null, trained: mean(members.map((row) => row.trained)),
        seconds: mean(members.map((row) => row.seconds)),
        problems: new Set(members.map((row) => row.dataset + row.task + row.tree)).size,
        unfinished: 100 * (mean(members.map((row) => row.unfinished)) ?? 0),
      };
    });
  }

  const shown = {
    beaten: (v) => v.toFixed(0), gain: (v) => (v > 0 ? "+" : "") + v.toFixed(4), degradation: (v) => v.toFixed(4),
    trained: (v) => Math.round(v).toLocaleString("en"), seconds: (v) => v.toFixed(0), unfinished: (v) => v.toFixed(0),
  };
  const element = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value); else node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  };

  function select(key, label, values) {
    const box = element("select", { id: "filter-" + key, onchange: (e) => { filters[key] = e.target.value; draw(); } });
    box.append(element("option", { value: "" }, "all"), ...values.map((v) => element("option", { value: v }, String(v))));
    box.value = filters[key];
    return element("label", {}, label + " ", box);
  }
  const unique = (of) => [...new Set(rows.map(of))].sort();
  const bar = element("div", { class: "ranking-filters" },
    select("dataset", "Dataset", unique(base)), select("task", "New task", unique((r) => r.task)),
    select("arm", "Strategy", unique((r) => r.arm)), select("track", "Track", unique((r) => r.track)),
    select("frozen", "Old tasks frozen", ["true", "false"]), select("least", "Problems at least", ["2", "5", "10"]),
    element("label", {}, "Search ", element("input", { type: "search", value: filters.q,
      oninput: (e) => { filters.q = e.target.value; draw(); } })));
  const table = element("div", { class: "ranking-table", tabindex: "0", role: "region", "aria-label": "Ranking table" });
  place.append(bar, table);

  function detail(entry) {
    return element("ul", {}, ...entry.members.map((row) => element("li", {},
      `${row.dataset}, new task ${row.task} (${row.tree}): gain ${shown.gain(row.gain)}, rank ${row.rank}, ` +
      `${row.seeds} seeds; `,
      element("code", {}, `python run_all.py verify ${row.runs[0] ?? ""} --out results/reference/${row.tree}`))));
  }

  function draw() {
    const state = new URLSearchParams(Object.entries(filters).filter(([, v]) => v));
    state.set("sort", order); if (!down) state.set("up", "1");
    history.replaceState(null, "", "#" + state);
    const least = Math.max(1, Number(filters.least) || 1); // one lucky problem is no ranking
    const entries = aggregated().filter((entry) => entry.problems >= least).sort((a, b) => {
      const [x, y] = [a[order], b[order]];
      if (x === null || y === null) return (x === null) - (y === null);
      const difference = typeof x === "string" ? y.localeCompare(x) : y - x;
      return (down ? difference : -difference) || b.problems - a.problems;
    });
    const head = element("tr", {}, element("th", {}, "#"), ...columns.map(([key, title]) =>
      element("th", { "aria-sort": key === order ? (down ? "descending" : "ascending") : "none" },
        element("button", { type: "button", onclick: () => { down = key === order ? !down : true; order = key; draw(); } },
          title + (key === order ? (down ? " ↓" : " ↑") : "")))));
    const body = entries.map((entry, i) => element("tr", {}, element("td", {}, String(i + 1)),
      ...columns.map(([key]) => {
        const value = entry[key];
        if (key === "method") return element("td", {}, element("details", {}, element("summary", {}, value), detail(entry)));
        return element("td", { class: shown[key] ? "number" : "" },
          value === null ? "–" : shown[key] ? shown[key](value) : String(value));
      })));
    table.replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
  }
  draw();
})();
