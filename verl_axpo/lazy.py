"""Run code right after a module has been imported, whoever imports it.

verl imports its plugins in every process of a run, and most of verl's modules take seconds to import. So a plugin says
`when_imported("verl.trainer.ppo.v1", register)`: processes that use the module get the registration, and the others
pay nothing.
"""

import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

Callback = Callable[[ModuleType], None]


class _CallingLoader(Loader):
    """Runs the wrapped loader, then the callbacks of the module it loaded."""

    def __init__(self, wrapped: Loader, callbacks: list[Callback]) -> None:
        self._wrapped = wrapped
        self._callbacks = callbacks

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._wrapped.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._wrapped.exec_module(module)
        for callback in self._callbacks:
            callback(module)

    def __getattr__(self, name: str) -> Any:
        # inspect, pickle and pkgutil ask loaders for more than the two methods above
        return getattr(self._wrapped, name)


class LazyFinder(MetaPathFinder):
    """Finds nothing by itself; wraps the loader of a module that has callbacks."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callback]] = {}
        self._searching: set[str] = set()

    def add(self, name: str, callback: Callback) -> None:
        """Call `callback` with module `name` whenever it is executed from now on."""
        self._callbacks.setdefault(name, []).append(callback)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname not in self._callbacks or fullname in self._searching:
            return None
        self._searching.add(fullname)  # the search below asks this finder again
        try:
            spec = find_spec(fullname)
        finally:
            self._searching.discard(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _CallingLoader(spec.loader, self._callbacks[fullname])
        return spec


_finder = LazyFinder()


def when_imported(name: str, callback: Callback) -> None:
    """Call `callback` with module `name`: now if it is imported already, else right after its import."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    if name in sys.modules:
        callback(sys.modules[name])
    else:
        _finder.add(name, callback)
