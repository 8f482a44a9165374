// A question as a tree: its rollouts, the prefixes that AXPO kept, and the continuations that hang from them.
const TREE = { row: 54, root: 132, rollout: 250, width: 340, child: 700, gap: 6 };

// {nodes: [{each, x, y}], edges: [{from, to, each}], height}: a source is as tall as its continuations
function layout(trajectories) {
  const nodes = [], edges = [];
  let y = 0;
  for (const each of trajectories.filter((one) => one.source === null)) {
    const children = trajectories.filter((one) => one.source === each.id);
    const rows = Math.max(1, children.length);
    const middle = y + ((rows - 1) * TREE.row) / 2;
    nodes.push({ each, x: TREE.rollout, y: middle });
    edges.push({ each, x: TREE.root, to: TREE.rollout, y: null, end: middle });
    children.forEach((child, row) => {
      nodes.push({ each: child, x: TREE.child, y: y + row * TREE.row });
      edges.push({ each: child, x: TREE.rollout + TREE.width, to: TREE.child, y: middle, end: y + row * TREE.row });
    });
    y += rows * TREE.row + (children.length ? TREE.gap : 0);
  }
  return { nodes, edges, height: y };
}

function Mask({ each }) {
  if (!each.runs || !each.tokens) return null;
  const part = (length) => `${(100 * length) / each.tokens}%`;
  return html`<span class="mask" title="filled: trained; hatched: the policy's, not trained; dotted: a tool's; line: end of the prefix">
    ${each.runs.map(([kind, length]) => html`<i class=${kind} style=${`width:${part(length)}`}></i>`)}
    ${each.prefix !== null && html`<b style=${`left:${part(each.prefix)}`}></b>`}
  </span>`;
}

const nodeTitle = (each) => (each.source === null ? `rollout ${each.id}` : `continuation ${each.id}`);

function Tree({ question, chapterKey, at }) {
  const { nodes, edges, height } = useMemo(() => layout(question.trajectories), [question]);
  const middle = height / 2 - TREE.row / 2;
  const wide = question.trajectories.some((each) => each.source !== null);
  const line = ({ x, to, y, end }) => {
    const [from, until, half] = [(y ?? middle) + 23, end + 23, (to - x) / 2];
    return `M${x},${from} C${x + half},${from} ${to - half},${until} ${to},${until}`;
  };
  return html`<div class="tree" style=${`height:${height}px;min-width:${wide ? TREE.child + TREE.width : TREE.rollout + TREE.width}px`}>
    <svg width="100%" height=${height} aria-hidden="true">
      ${edges.map((edge) => html`<path d=${line(edge)} class=${`edge ${verdict(edge.each)}`} />`)}
      ${edges.map((edge) => edge.each.advantage !== undefined && html`<text x=${edge.to - 8} y=${edge.end + 15} text-anchor="end"
        class=${`advantage ${edge.each.advantage > 0 ? "up" : edge.each.advantage < 0 ? "down" : ""}`}>${signed(edge.each.advantage)}</text>`)}
    </svg>
    <div class="root" style=${`top:${middle}px`}>question</div>
    ${nodes.map(({ each, x, y }) => html`<a class=${`node ${verdict(each)} ${at === each.id ? "at" : ""} ${each.selected ? "selected" : ""}`}
        style=${`left:${x}px;top:${y}px;width:${TREE.width}px`} href=${"#/" + path(chapterKey, question.uid, each.id)}>
      <span><strong>${nodeTitle(each)}</strong>
        ${each.usesTool && html`<em>tool</em>`}${each.selected && html`<em class="kept">prefix kept</em>`}
        ${each.status !== "ok" && html`<em>${each.status.replace("_", " ")}</em>`}
        <small>${each.confidence != null && `conf. ${number(each.confidence, 2)}`}</small></span>
      <${Mask} each=${each} />
    </a>`)}
  </div>`;
}

const LEGEND = html`<p class="legend">
  <i class="square right"></i> right <i class="square wrong"></i> wrong <i class="square infra"></i> a service failed
  <span class="mask"><i class="trained" style="width:100%"></i></span> trained
  <span class="mask"><i class="masked" style="width:100%"></i></span> the policy's, not trained
  <span class="mask"><i class="tool" style="width:100%"></i></span> a tool's
  <span>on the edges: advantage</span></p>`;

function Question({ chapterKey, uid, version, up, next }) {
  const { value, error } = useData(`question/${path(chapterKey, uid)}`, version);
  const [at, setAt] = useState(0);
  const each = value ? value.trajectories : [];
  const move = (by) => setAt((old) => Math.max(0, Math.min(each.length - 1, old + by)));
  const order = useMemo(() => (value ? layout(value.trajectories).nodes.map((node) => node.each.id) : []), [value]);
  useKeys({ u: up, j: () => move(1), k: () => move(-1), Enter: () => go(chapterKey, uid, order[at]), n: () => next(1), p: () => next(-1) });
  if (error) return html`<p class="error">${shown(error)}</p>`;
  if (!value) return html`<p class="none">Loading ...</p>`;
  return html`<section>
    <${Asked} question=${value} />
    ${value.trajectories.length ? html`<div class="scroll"><${Tree} question=${value} chapterKey=${chapterKey} at=${order[at]} /></div>${LEGEND}`
      : html`<p class="none">No rollout yet.</p>`}
  </section>`;
}

function Asked({ question }) {
  return html`<div class="asked">
    <div class="pictures">${question.images.map((image) => html`<${Picture} path=${image} key=${image} />`)}</div>
    <div><p class="words">${shown(question.text)}</p><p>answer <strong class="truth">${shown(question.truth)}</strong> <code>${shown(question.uid)}</code></p></div>
  </div>`;
}

function Picture({ path: file }) {
  const [state, setState] = useState("");
  const source = pictureAt(file);
  if (!source || state === "gone") return html`<span class="gone">picture is missing: ${shown(file)}</span>`;
  return html`<img src=${source} alt=${shown(file)} class=${state} title="click: full size" onError=${() => setState("gone")}
    onClick=${() => setState(state ? "" : "full")} />`;
}
