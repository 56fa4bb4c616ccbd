"""Privacy plan of an experiment: the noise required by its target, rates and length."""

from mama.config import Experiment


def planned_noise(experiment: Experiment) -> float:
    """Return the noise multiplier of a step (patient level) or of a round, all sites (site level).

    Raises:
        ConfigError: no noise is large enough.
    """
    # Lazy import: Opacus takes seconds to load.
    from mama.privacy.accounting import noise_multiplier

    config = experiment.privacy
    if config.mode == "patient":
        steps = experiment.total_steps
        return noise_multiplier(config.epsilon, config.delta, config.sample_rate, steps)
    return noise_multiplier(config.epsilon, config.delta, 1.0, experiment.federation.rounds)


def require_possible(experiment: Experiment) -> None:
    """Refuse a privacy target that no noise can meet, before anything is created.

    Raises:
        ConfigError: the target cannot be met.
    """
    if experiment.privacy.mode != "none":
        planned_noise(experiment)
