// Tables of any length: only the rows in view exist. Columns are {label, value(row), cell(row)?, wide?}.
const ROW_PX = 30;

function Table({ columns, rows, open, identify, actions = {} }) {
  const [sorted, setSorted] = useState({ column: null, down: false });
  const [at, setAt] = useState(0);
  const [top, setTop] = useState(0);
  const box = useRef(null);
  const ordered = useMemo(() => {
    if (sorted.column === null) return rows;
    const value = columns[sorted.column].value;
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    return [...rows].sort((a, b) => compare(value(a) ?? -Infinity, value(b) ?? -Infinity) * (sorted.down ? -1 : 1));
  }, [rows, sorted]);
  const move = (by) => {
    const next = Math.max(0, Math.min(ordered.length - 1, at + by));
    setAt(next);
    const [above, height] = [next * ROW_PX, box.current.clientHeight - 2 * ROW_PX];
    if (above < box.current.scrollTop) box.current.scrollTop = above;
    if (above > box.current.scrollTop + height) box.current.scrollTop = above - height;
  };
  useKeys({ ...actions, j: () => move(1), k: () => move(-1), Enter: () => ordered[at] && open(ordered[at]) });
  const first = Math.max(0, Math.floor(top / ROW_PX) - 10);
  const visible = ordered.slice(first, first + Math.ceil((box.current?.clientHeight || 800) / ROW_PX) + 20);
  const layout = `grid-template-columns:${columns.map((each) => (each.wide ? "minmax(12rem,1fr)" : each.width || "6rem")).join(" ")}`;
  const sort = (column) => setSorted((old) => ({ column, down: old.column === column ? !old.down : true }));
  return html`<div class="table" ref=${box} onScroll=${(event) => setTop(event.target.scrollTop)} role="table">
    <div class="line head" style=${layout} role="row">
      ${columns.map((each, column) => html`<button role="columnheader" onClick=${() => sort(column)} title=${each.title || "sort"}>
        ${each.label}${sorted.column === column ? (sorted.down ? " ↓" : " ↑") : ""}</button>`)}
    </div>
    <div class="lines" style=${`height:${ordered.length * ROW_PX}px`}>
      ${visible.map((row, offset) => html`<a class=${`line ${first + offset === at ? "at" : ""}`} key=${identify(row)} role="row"
          style=${`${layout};top:${(first + offset) * ROW_PX}px`} href=${"#/" + path(...identify(row))}>
        ${columns.map((each) => html`<span role="cell" class=${each.wide ? "wide" : ""}>${each.cell ? each.cell(row) : shown(each.value(row))}</span>`)}
      </a>`)}
    </div>
    ${ordered.length === 0 && html`<p class="none">Nothing matches.</p>`}
  </div>`;
}

// A mark of the list: [id, reward, uses a tool, status, correct]
const square = ([id, reward, usesTool, status, correct]) => {
  const kind = verdict({ status, correct });
  return html`<i class=${`square ${kind} ${usesTool ? "tool" : ""}`} title=${`${id}: ${kind}${usesTool ? ", with a tool" : ""}`}></i>`;
};

const FILTERS = {
  triggered: (row) => row.triggered,
  resampled: (row) => row.resampled,
  restored: (row) => row.restored,
  "not restored": (row) => row.resampled && !row.restored,
  "infra failure": (row) => row.infra > 0,
  "uses a tool": (row) => row.rollouts.some((each) => each[2]),
  "all wrong": (row) => !row.rollouts.some((each) => each[4]),
  "all right": (row) => row.rollouts.every((each) => each[4]),
};

// What was chosen in a chapter stays so when the reader comes back to it
const kept = {};

function Chapter({ chapterKey, training, version, up }) {
  const { value, error } = useData(`chapter/${path(chapterKey)}`, version);
  const [chosen, setChosen] = useState(kept[chapterKey]?.chosen || []);
  const [words, setWords] = useState(kept[chapterKey]?.words || "");
  kept[chapterKey] = { chosen, words };
  const search = useRef(null);
  const all = value ? value.questions : [];
  const rows = useMemo(() => {
    const wanted = words.toLowerCase();
    const fits = (row) => `${row.uid} ${row.text} ${row.truth}`.toLowerCase().includes(wanted);
    return all.filter((row) => chosen.every((name) => FILTERS[name](row)) && fits(row));
  }, [all, chosen, words]);
  useKeys({ u: up });
  if (error) return html`<p class="error">${shown(error)}</p>`;
  if (!value) return html`<p class="none">Loading ...</p>`;
  const sum = (marks) => marks.filter((each) => each[4]).length;
  const columns = [
    { label: "question", wide: true, value: (row) => row.text },
    { label: "answer", value: (row) => row.truth, width: "8rem" },
    { label: "rollouts", width: "13rem", value: (row) => sum(row.rollouts) / row.rollouts.length,
      cell: (row) => row.rollouts.map(square) },
    { label: "tool", value: (row) => row.rollouts.filter((each) => each[2]).length, width: "4rem", title: "rollouts with a tool call" },
    ...(training ? [
      { label: "continuations", width: "10rem", value: (row) => sum(row.continuations), cell: (row) => row.continuations.map(square) },
      { label: "AXPO", width: "8rem", value: (row) => (row.restored ? 3 : row.resampled ? 2 : row.triggered ? 1 : 0),
        cell: (row) => (row.restored ? "restored" : row.resampled ? "resampled" : row.triggered ? "triggered" : "") },
    ] : []),
    { label: "uid", value: (row) => row.uid, width: "10rem" },
  ];
  const toggle = (name) => setChosen((old) => (old.includes(name) ? old.filter((each) => each !== name) : [...old, name]));
  const names = Object.keys(FILTERS).filter((name) => training || !/trigger|sampled|restored/.test(name));
  return html`<section class="fill">
    <div class="bar">
      <input ref=${search} placeholder="search ( / )" value=${words} onInput=${(event) => setWords(event.target.value)} />
      ${names.map((name) => html`<button class=${`chip ${chosen.includes(name) ? "on" : ""}`} aria-pressed=${chosen.includes(name)}
        onClick=${() => toggle(name)}>${name}</button>`)}
      <span class="count">${rows.length} of ${all.length}</span>
    </div>
    ${value.defects.map((defect) => html`<p class="defect">${shown(defect)}</p>`)}
    <${Table} columns=${columns} rows=${rows} identify=${(row) => [chapterKey, row.uid]} open=${(row) => go(chapterKey, row.uid)}
      actions=${{ u: up, "/": () => search.current.focus() }} />
  </section>`;
}
