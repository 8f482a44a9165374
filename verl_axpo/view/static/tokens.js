// A trajectory in words and in tokens, alone or next to another.
const SHADES = {
  "log-probability": (tokens, place) => tokens.logprobs[place] === null ? null : ["heat", Math.min(1, -tokens.logprobs[place] / 5)],
  advantage: (tokens, place) => tokens.trained[place] ? [tokens.advantage >= 0 ? "gain" : "loss", Math.min(1, Math.abs(tokens.advantage) / 2)] : null,
  entropy: (tokens, place) => !tokens.entropies || tokens.entropies[place] === null ? null : ["heat", Math.min(1, tokens.entropies[place] / 3)],
};

function Tokens({ chapterKey, uid, id }) {
  const { value, error } = useData(`tokens/${path(chapterKey, uid, id)}`);
  const [shade, setShade] = useState("log-probability");
  if (error) return html`<p class="none">${shown(error)}${held && " Written with --tokens, it would."}</p>`;
  if (!value) return html`<p class="none">Loading ...</p>`;
  const [start, end] = value.call || [-1, -1];
  const names = Object.keys(SHADES).filter((name) => name !== "entropy" || value.entropies);
  const classes = (place) => ["token", place >= start && place < end ? "incall" : "", value.trained[place] ? "" : "untrained", place === value.prefix ? "cut" : ""].join(" ");
  const about = (place) => `${place}: id ${value.ids[place]}, ` +
    (value.logprobs[place] === null ? "not the policy's" : `log-probability ${number(value.logprobs[place])}`) +
    (value.entropies && value.entropies[place] !== null ? `, entropy ${number(value.entropies[place])}` : "") +
    `, ${value.trained[place] ? `trained, advantage ${signed(value.advantage)}` : "not trained"}`;
  return html`<div class="tokens">
    <p class="bar">shade by ${names.map((name) => html`<button class=${`chip ${name === shade ? "on" : ""}`} onClick=${() => setShade(name)}>${name}</button>`)}
      <span class="count">${value.ids.length} tokens; │ ends the prefix, underlined: the tool call${value.texts ? "" : "; no tokenizer here, so ids"}</span></p>
    <pre>${value.ids.map((token, place) => {
      const [colour, strength] = SHADES[shade](value, place) || ["", 0];
      return html`<span class=${classes(place)} title=${about(place)} style=${colour ? `background:rgb(var(--${colour})/${strength.toFixed(2)})` : ""}
        >${value.texts ? shown(value.texts[place]) : `${token} `}</span>`;
    })}</pre>
  </div>`;
}

function Parts({ each }) {
  let calls = 0, images = 0, cut = each.prefix == null ? -1 : 0;
  const pieces = each.parts.map((part, place) => {
    if (part.kind === "image") return each.images[images] ? html`<${Picture} path=${each.images[images]} key=${place + each.images[images++]} />` : null;
    if (part.kind === "mark" || part.kind === "opening") {
      const ends = cut === 0 && part.kind === "opening";
      if (ends) cut = 1;
      return html`<span class="mark">${shown(part.text)}</span>${ends && html`<div class="cutline">the prefix ends here</div>`}`;
    }
    if (part.kind === "call") {
      const call = each.calls[calls++];
      return html`<pre class="call">${shown(part.text.trim())}</pre>${call && html`<p class=${call.ok ? "done" : "failed"}>
        ${shown(call.name)} ${call.ok ? "answered" : call.infra ? "failed: a service" : "refused"} in ${number(call.seconds, 2)} s ${shown(call.error)}</p>`}`;
    }
    return part.text.trim() ? html`<div class=${`part ${part.kind} ${cut === 1 && each.selected ? "after" : ""}`}>${shown(part.text.trim())}</div>` : null;
  });
  const left = each.images.slice(images);
  return html`<div class="parts">${pieces}${left.map((image) => html`<${Picture} path=${image} key=${image} />`)}</div>`;
}

function facts(each) {
  const found = [["status", each.status], ["reward", each.reward], ["advantage", each.advantage === undefined ? null : signed(each.advantage)],
    ["recovery", each.recovery], ["confidence", each.confidence && number(each.confidence)], ["entropy", each.entropy && number(each.entropy)],
    ["tokens", each.tokens], ["seconds", number(each.seconds, 1)], ["weights", each.weights && [...new Set(each.weights)].join(" to ")]];
  return found.filter(([, value]) => value !== null && value !== undefined && value !== "");
}

function Trajectory({ each, chapterKey, uid, tokens }) {
  return html`<article class=${`trajectory ${verdict(each)}`}>
    <h2>${nodeTitle(each)}${each.source !== null ? html` <small>of <a href=${"#/" + path(chapterKey, uid, each.source)}>rollout ${each.source}</a></small>` : ""}</h2>
    <p class="facts">${facts(each).map(([name, value]) => html`<span>${name} <b>${shown(value)}</b></span>`)}</p>
    <p class="reason">${shown(each.reason)}</p>
    <${Mask} each=${each} />
    ${tokens ? html`<${Tokens} chapterKey=${chapterKey} uid=${uid} id=${each.id} />` : html`<${Parts} each=${each} />`}
  </article>`;
}

// The trajectory that `m` marked, to be compared with one of any other question or step: [chapter, uid, id]
let marked = null;

// `other` names what stands next to it: an id of the same question, or chapter, uid and id
function Trajectories({ chapterKey, uid, id, other, version }) {
  const { value, error } = useData(`question/${path(chapterKey, uid)}`, version);
  const [otherKey, otherUid, otherId] = other.length > 1 ? other : [chapterKey, uid, other[0]];
  const second = useData(`question/${path(otherKey, otherUid)}`, version);
  const [tokens, setTokens] = useState(false);
  const [mark, setMark] = useState(marked);
  const all = value ? value.trajectories : [];
  const find = (question, name) => question && question.trajectories.find((each) => each.id === name);
  const here = find(value, id), beside = find(second.value, otherId);
  const order = useMemo(() => (value ? layout(all).nodes.map((node) => node.each.id) : []), [value]);
  const step = (by) => { const to = order[order.indexOf(id) + by]; if (to) go(chapterKey, uid, to, ...(other.length ? ["vs", ...other] : [])); };
  const versus = (...names) => (names[0] ? go(chapterKey, uid, id, "vs", ...names) : go(chapterKey, uid, id));
  const isMarked = mark && mark.join() === [chapterKey, uid, id].join();
  const setMarked = () => setMark((marked = [chapterKey, uid, id]));
  const compare = () => (other.length ? versus() : mark && !isMarked ? versus(...mark) : versus(order.find((name) => name !== id)));
  useKeys({ u: () => go(chapterKey, uid), n: () => step(1), p: () => step(-1), j: () => window.scrollBy(0, 80), k: () => window.scrollBy(0, -80),
    t: () => setTokens(!tokens), m: setMarked, c: compare });
  if (error) return html`<p class="error">${shown(error)}</p>`;
  if (!value) return html`<p class="none">Loading ...</p>`;
  if (!here) return html`<p class="error">No trajectory ${shown(id)} here.</p>`;
  return html`<section>
    <${Asked} question=${value} />
    <div class="bar"><button class=${`chip ${tokens ? "on" : ""}`} onClick=${() => setTokens(!tokens)}>tokens (t)</button>
      <button class=${`chip ${isMarked ? "on" : ""}`} onClick=${setMarked} title="then open any other trajectory, and press c">mark (m)</button>
      <label>compare with (c) <select value=${other.join("/")} onChange=${(event) => versus(...event.target.value.split("/").filter(Boolean))}>
        <option value="">nothing</option>${all.filter((each) => each.id !== id).map((each) => html`<option value=${each.id} selected=${other.join("/") === each.id}>${nodeTitle(each)}: ${verdict(each)}</option>`)}
        ${other.length > 1 && html`<option value=${other.join("/")} selected>${shown(other.join(", "))}</option>`}
      </select></label>${mark && !isMarked && html`<span>marked: ${shown(mark.join(", "))}</span>`}</div>
    <div class=${beside ? "pair" : ""}>
      <${Trajectory} each=${here} chapterKey=${chapterKey} uid=${uid} tokens=${tokens} key=${here.id} />
      ${beside && html`<${Trajectory} each=${beside} chapterKey=${otherKey} uid=${otherUid} tokens=${tokens} key=${"vs" + otherUid + beside.id} />`}
    </div>
  </section>`;
}
