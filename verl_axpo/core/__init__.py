"""The paper, pure: no verl, ray, vllm or hydra inside. Import from the modules; in the order of the data's flow:

types -> config -> trigger -> ranking -> budget -> step (all of them in one function) -> advantage -> metrics
"""
