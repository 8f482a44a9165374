"""`tavily-search`: passages with their sources, from the web or from a folder of documents (paper, section 2).

arguments from the policy -> tool.py -> service.py -> cache.py -> tavily.py   (client, retries, quota.py)
                                             |     -> local_index.py          (SQLite FTS5)
                                       hits.py -> text of at most max_tokens

config.py       the keys of the tool's config, checked; which engine answers
tool.py         the verl tool; the only module here that imports verl
service.py      `Search`: a question to its answer, whichever engine and mode
cache.py        answers on disk, shared by all processes of a machine; their content hash
quota.py        the rate of calls and the limit of paid calls, for all processes of a machine
tavily.py       Tavily's own client; what its failures mean
local_index.py  the embedded engine: needs no key and no network
"""
