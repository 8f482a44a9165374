// Where data comes from: the server, or the page itself. Addresses are those of verl_axpo/view/source.py.
const element = document.getElementById("data");
const held = element && JSON.parse(element.textContent);
const FOLLOW_MS = 2000;

async function get(address) {
  if (!held) {
    const response = await fetch(`/data/${address}`);
    if (!response.ok) throw new Error(await response.text());
    return response.json();
  }
  if (!(address in held)) throw new Error("This file does not hold it; open the run with `verl-axpo view DIR`.");
  const bytes = Uint8Array.from(atob(held[address]), (sign) => sign.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

const pictureAt = (path) => {
  const address = "image/" + path.split("/").map(encodeURIComponent).join("/");
  return held ? held[address] || "" : `/data/${address}`;
};

// {value, error}: the last value stays while the next one loads
function useData(address, version) {
  const [state, setState] = useState({});
  useEffect(() => {
    let wanted = true;
    if (state.address !== address) setState({ address });
    if (address)
      get(address).then(
        (value) => wanted && setState({ address, value }),
        (error) => wanted && setState({ address, error: error.message }),
      );
    return () => (wanted = false);
  }, [address, version]);
  return state.address === address ? state : {};
}

// The run, asked for again while the server lives; `version` counts its changes
function useRun() {
  const [state, setState] = useState({ version: 0 });
  useEffect(() => {
    let last = "", timer = null;
    const ask = async () => {
      try {
        const run = await get("run"), text = JSON.stringify(run);
        if (text !== last) setState((old) => ({ run, version: old.version + 1 }));
        last = text;
      } catch (error) {
        setState((old) => ({ ...old, error: last ? "The server has stopped; what was loaded stays." : error.message }));
      }
      if (!held) timer = setTimeout(ask, FOLLOW_MS);
    };
    ask();
    return () => clearTimeout(timer);
  }, []);
  return state;
}

const path = (...names) => names.map(encodeURIComponent).join("/");
const go = (...names) => (location.hash = "#/" + path(...names));
const route = () => location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);

// The view on top says what keys do: {key: action}
let keys = {};
const useKeys = (actions) => {
  keys = actions;
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const action = keys[event.key] || { ArrowDown: keys.j, ArrowUp: keys.k, Backspace: keys.u, Escape: keys.u }[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});
