"""Choose what a stage runs: a model of the profile, or one of its ablations."""

from calico.config import Config, load_config
from calico.errors import ConfigError


def load_variant(profile: str, name: str) -> Config:
    """Read one profile of params.yaml in which `name` is one of `model.variants`.

    Raises:
        ConfigError: see `load_config`; or `name` is neither a model nor an ablation of the profile.
    """
    loaded = load_config(profile)
    known = {**loaded.ablations, **loaded.model.variants}
    if name not in known:
        choices = ", ".join([*loaded.model.variants, *loaded.ablations])
        raise ConfigError(f"no model '{name}'; choose one of {choices}.")
    variants = {**loaded.model.variants, name: known[name]}
    return loaded.model_copy(update={"model": loaded.model.model_copy(update={"variants": variants})})
