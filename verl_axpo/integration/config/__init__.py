"""Hydra configuration files; on verl's search path through the plugin in ``hydra_plugins``."""
