"""The paper, pure: no verl, ray, vllm or hydra inside. Import from the modules; in the order of the data's flow:

types -> config -> trigger -> ranking -> budget -> step (all five in one function) -> recovery -> advantage -> metrics
"""
