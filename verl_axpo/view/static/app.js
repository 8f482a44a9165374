// The run: curves, its steps or benchmarks; the head of every page; which view is on top.
const CURVES = [
  { title: "rollouts right", names: ["axpo/pass@1", "axpo/pass@N"] },
  { title: "tool use", names: ["axpo/tool_use_rate"] },
  { title: "subgroups all wrong", names: ["axpo/tool_all_wrong_rate", "axpo/no_tool_all_wrong_rate", "axpo/tool_all_wrong_rate_after"] },
  { title: "resampling recovers", names: ["axpo/restore_rate", "axpo/recovery_rate"] },
];
const COLOURS = ["--c1", "--c2", "--c3"];
const HELP = [["j, k, arrows", "down, up"], ["Enter", "open"], ["u, Esc, Backspace", "up one level"], ["n, p", "next, previous question or trajectory"],
  ["/", "search"], ["t", "tokens"], ["m, c", "mark one trajectory; compare with it, or with the next"], ["d", "dark or light"], ["?", "this help"]];

function Curve({ title, names, chapters, dark, hover }) {
  const box = useRef(null);
  useEffect(() => {
    const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const steps = chapters.map((each) => Number(each.key));
    const data = [steps, ...names.map((name) => chapters.map((each) => each.metrics[name] ?? null))];
    const axis = { stroke: css("--dim"), grid: { stroke: css("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const plot = new uPlot({
      width: box.current.clientWidth, height: 130, scales: { x: { time: false }, y: { range: (_, low, high) => [Math.min(0, low), Math.max(high, low + 1e-9)] } },
      axes: [{ ...axis, size: 26, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] }, { ...axis, size: 44 }],
      series: [{ label: "step" }, ...names.map((name, at) => ({ label: name.replace("axpo/", ""), stroke: css(COLOURS[at % 3]), width: 2, points: { show: steps.length < 30, size: 5 },
        value: (_, value) => (value === null ? "" : value.toFixed(3)) }))],
      cursor: { sync: { key: "steps" }, points: { size: 7 } },
      hooks: { setCursor: [(self) => hover(self.cursor.idx == null ? null : chapters[self.cursor.idx].key)] },
    }, data, box.current);
    const open = () => plot.cursor.idx != null && go(chapters[plot.cursor.idx].key);
    plot.over.addEventListener("click", open);
    const resized = new ResizeObserver(() => plot.setSize({ width: box.current.clientWidth, height: 130 }));
    resized.observe(box.current);
    return () => { resized.disconnect(); plot.destroy(); };
  }, [chapters, dark, names.join()]);
  return html`<figure><figcaption>${title}</figcaption><div ref=${box}></div></figure>`;
}

function Run({ run, dark }) {
  const [under, setUnder] = useState(null);
  const [extra, setExtra] = useState("");
  const chapters = run.chapters, training = run.kind === "training";
  const done = useMemo(() => chapters.filter((each) => Object.keys(each.metrics).length), [chapters]);
  const names = useMemo(() => [...new Set(done.flatMap((each) => Object.keys(each.metrics)))].sort(), [done]);
  const metric = (name) => (row) => row.metrics[name];
  const figure = (label, name, show = percent) => ({ label, title: name, value: metric(name), cell: (row) => show(metric(name)(row)), width: "7rem" });
  const whole = (value) => (value === undefined || value === null ? "" : String(value));
  const columns = training
    ? [{ label: "step", value: (row) => Number(row.key), cell: (row) => html`<b class=${row.key === under ? "under" : ""}>${row.key}</b>`, width: "5rem" },
       figure("Pass@1 %", "axpo/pass@1"), figure("tool use %", "axpo/tool_use_rate"), figure("all wrong %", "axpo/tool_all_wrong_rate"),
       figure("triggered", "axpo/triggered", whole), figure("prefixes", "axpo/selected", whole), figure("restored %", "axpo/restore_rate"),
       figure("failures", "axpo/infra_failures", whole), { label: "", wide: true, value: () => "", cell: (row) => (row.complete ? "" : "going on") }]
    : [{ label: "benchmark", wide: true, value: (row) => row.key }, figure("Pass@1 %", "pass@1"), figure("questions", "questions", whole), figure("rollouts", "rollouts", whole)];
  if (!chapters.length) return html`<p class="none">Nothing is there yet; this page follows.</p>`;
  return html`<section class="fill">
    ${training && done.length > 0 && html`<div class="curves">
      ${CURVES.map((each) => html`<${Curve} ...${each} chapters=${done} dark=${dark} hover=${setUnder} key=${each.title} />`)}
      ${extra && html`<${Curve} title=${extra} names=${[extra]} chapters=${done} dark=${dark} hover=${setUnder} key=${extra} />`}
    </div>
    <p class="bar"><span>${under ? html`step <b>${under}</b>: click opens it` : "point at a curve for its step"}</span>
      <select value=${extra} onChange=${(event) => setExtra(event.target.value)}><option value="">another metric ...</option>${names.map((name) => html`<option value=${name}>${name}</option>`)}</select></p>`}
    <${Table} columns=${columns} rows=${chapters} identify=${(row) => [row.key]} open=${(row) => go(row.key)} />
  </section>`;
}

function App() {
  const { run, version, error } = useRun();
  const [place, setPlace] = useState(route());
  const [help, setHelp] = useState(false);
  const [dark, setDark] = useState(() => (localStorageGet("theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark");
  useEffect(() => { const moved = () => { setPlace(route()); window.scrollTo(0, 0); }; addEventListener("hashchange", moved); return () => removeEventListener("hashchange", moved); }, []);
  useEffect(() => { document.documentElement.dataset.theme = dark ? "dark" : "light"; localStorageSet("theme", dark ? "dark" : "light"); }, [dark]);
  useEffect(() => {
    const pressed = (event) => {
      if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || event.ctrlKey || event.metaKey) return;
      if (event.key === "d") setDark((old) => !old);
      if (event.key === "?") setHelp((old) => !old);
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
  document.documentElement.dataset.theme = dark ? "dark" : "light"; // before the curves read its colours
  const [key, uid, id, , ...other] = place;
  const training = run && run.kind === "training";
  const crumbs = [["run", []], key && [training ? `step ${key}` : key, [key]], uid && [uid, [key, uid]], id && [id + (other.length ? ` and ${other.join(", ")}` : ""), place]].filter(Boolean);
  const neighbours = useData(uid && !id ? `chapter/${path(key)}` : null, version);
  const next = (by) => {
    const uids = neighbours.value ? neighbours.value.questions.map((row) => row.uid) : [];
    const to = uids[uids.indexOf(uid) + by];
    if (to) go(key, to);
  };
  keys = {};
  const view = !run ? html`<p class=${error ? "error" : "none"}>${error ? shown(error) : "Loading ..."}</p>`
    : id ? html`<${Trajectories} chapterKey=${key} uid=${uid} id=${id} other=${other} version=${version} key=${path(key, uid)} />`
    : uid ? html`<${Question} chapterKey=${key} uid=${uid} version=${version} up=${() => go(key)} next=${next} key=${path(key, uid)} />`
    : key ? html`<${Chapter} chapterKey=${key} training=${training} version=${version} up=${() => go()} key=${key} />`
    : html`<${Run} run=${run} dark=${dark} />`;
  return html`<header><h1>${run ? shown(run.title) : "verl-axpo"}</h1>
      <nav>${crumbs.map(([label, to], at) => html`${at > 0 && " › "}<a href=${"#/" + path(...to)}>${shown(label)}</a>`)}</nav>
      ${run && error && html`<span class="defect">${error}</span>`}
      <button onClick=${() => setDark(!dark)} title="dark or light (d)">${dark ? "☀" : "☾"}</button><button onClick=${() => setHelp(!help)} title="keys (?)">?</button></header>
    ${help && html`<aside><dl>${HELP.map(([name, what]) => html`<dt>${name}</dt><dd>${what}</dd>`)}</dl></aside>`}
    <main>${view}</main>`;
}

// A file from disk may have no storage
function localStorageGet(name) { try { return localStorage.getItem(name); } catch { return null; } }
function localStorageSet(name, value) { try { localStorage.setItem(name, value); } catch { /* the theme is not kept */ } }

render(html`<${App} />`, document.getElementById("app"));
