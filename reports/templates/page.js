"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");

  // Theme: system, light, dark in turn. Kept where the browser lets a page from disk keep things.
  const themes = ["system", "light", "dark"];
  const button = document.getElementById("theme");
  const store = {
    get: () => { try { return localStorage.getItem("accel-theme"); } catch { return null; } },
    set: (value) => { try { localStorage.setItem("accel-theme", value); } catch { /* not kept, then */ } },
  };
  const applyTheme = (theme) => {
    if (theme === "system") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    button.setAttribute("aria-label", `Theme: ${theme}. Change it`);
  };
  let theme = themes.includes(store.get()) ? store.get() : "system";
  applyTheme(theme);
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    store.set(theme);
    applyTheme(theme);
  });

  // Sorting: numbers by value, words by the alphabet, empty cells last both ways.
  const order = (cell) => {
    const said = cell.dataset.order;
    if (said === undefined) return null;
    return said !== "" && !Number.isNaN(Number(said)) ? Number(said) : said;
  };
  const compare = (one, other) =>
    typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other), "en", { numeric: true });
  const sort = (table, at, direction) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [order(row.cells[at]), row]);
    rows.sort(([one], [other]) => {
      if (one === null || other === null) return (one === null) - (other === null);
      return direction * compare(one, other);
    });
    body.append(...rows.map(([, row]) => row));
  };
  for (const table of document.querySelectorAll("table[data-table]")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, at) => {
      head.querySelector(".sort").addEventListener("click", () => {
        const first = head.classList.contains("number") ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const now = head.getAttribute("aria-sort") === first ? other : first;
        heads.forEach((one) => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", now);
        sort(table, at, now === "ascending" ? 1 : -1);
      });
    });
  }

  // Filter: all words must be somewhere in the row.
  for (const input of document.querySelectorAll("[data-filter]")) {
    const name = input.dataset.filter;
    const rows = [...document.querySelector(`table[data-table="${CSS.escape(name)}"]`).tBodies[0].rows];
    const count = document.querySelector(`[data-count="${CSS.escape(name)}"]`);
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      const all = `${rows.length} row${rows.length === 1 ? "" : "s"}`;
      count.textContent = shown === rows.length ? all : `${shown} of ${all}`;
    });
  }

  const copy = async (button, text) => {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      (button.closest("dialog") || document.body).append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.textContent = done ? "Copied" : "Not copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
  for (const one of document.querySelectorAll("[data-copy]")) {
    one.addEventListener("click", () => copy(one, one.dataset.copy));
  }

  // The JSON behind a row, and where it is from.
  const sources = JSON.parse(document.getElementById("data").textContent);
  const dialog = document.getElementById("details");
  const part = (id) => document.getElementById(`details-${id}`);
  const show = (name, path, command, title) => {
    const source = sources[name];
    if (!source) return false;
    let value = source.json;
    for (const key of path ? path.split("/") : []) value = value === undefined || value === null ? value : value[key];
    part("title").textContent = title;
    const link = document.createElement("a");
    link.href = `data/${name}.json`;
    link.textContent = `data/${name}.json`;
    part("file").replaceChildren(link, path ? ` at ${path}` : "");
    part("hash").textContent = source.hash;
    part("code").textContent = source.code;
    part("command").textContent = command || source.command;
    part("json").textContent = value === undefined ? "Too large for this page: open the file." : JSON.stringify(value, null, 1);
    dialog.showModal();
    part("json").scrollTop = 0;
    return true;
  };
  part("copy").addEventListener("click", () => copy(part("copy"), part("command").textContent));
  document.getElementById("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  for (const row of document.querySelectorAll("tbody tr[data-source]")) {
    row.addEventListener("click", (event) => {
      if (String(getSelection())) return;
      const opened = show(row.dataset.source, row.dataset.path, row.dataset.command, row.cells[0].textContent);
      if (opened) event.preventDefault();
    });
  }
  for (const one of document.querySelectorAll(".show")) {
    one.addEventListener("click", () => show(one.dataset.source, "", "", one.closest("article").querySelector("h3").textContent));
  }
})();
