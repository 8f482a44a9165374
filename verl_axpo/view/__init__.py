"""What AXPO did, in a browser: a run or an evaluation -> one page, from a server on this machine or as a single file.

text.py          a response -> thinking, calls, tool responses, answer
index.py         a step's file -> where each row begins, kept next to the trace
training.py      a trace            -> `Source`: chapters (steps), questions as trees, tokens, images
evaluation.py    an evaluation      -> `Source`: chapters (benchmarks)
source.py        what the page may ask for, and the addresses under which it asks
page.py          static/ -> the page; with data, the self-contained file
server.py        a `Source` -> http://127.0.0.1
static/          the page itself: plain scripts, one stylesheet; vendor/ has preact with htm, and uPlot, with licences

Nothing that a model or the web wrote is ever markup: it travels as JSON and becomes text nodes.
"""
