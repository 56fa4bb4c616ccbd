"""What an experiment plans to spend: the noise that its target, its rates and its length take."""

from mama.config import Experiment


def planned_noise(experiment: Experiment) -> float:
    """The noise multiplier of each step (patient level) or of each round, all sites in each (site level).

    Raises:
        ConfigError: no noise is large enough.
    """
    # Imported late: Opacus takes seconds to load.
    from mama.privacy.accounting import noise_multiplier

    config = experiment.privacy
    if config.mode == "patient":
        steps = experiment.total_steps
        return noise_multiplier(config.epsilon, config.delta, config.sample_rate, steps)
    return noise_multiplier(config.epsilon, config.delta, 1.0, experiment.federation.rounds)


def require_possible(experiment: Experiment) -> None:
    """Refuse a target that no noise meets, before anything is made.

    Raises:
        ConfigError: it is such a one.
    """
    if experiment.privacy.mode != "none":
        planned_noise(experiment)
