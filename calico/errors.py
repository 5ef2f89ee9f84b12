"""The errors a user can meet: what happened with values, where, what to do."""


class CalicoError(Exception):
    """Base of every error that bad input can cause; the command line prints it as one sentence."""


class ConfigError(CalicoError):
    """A value in params.yaml is missing, unknown, of the wrong type or out of range."""


class DataError(CalicoError):
    """A file of images or annotations is missing, damaged or contradicts itself."""


class AlignmentError(CalicoError):
    """Tokens, image features and masks do not match one to one."""


class CheckpointError(CalicoError):
    """A weight file is missing, damaged or belongs to another model."""


class TrainingError(CalicoError):
    """Training cannot go on: a loss became NaN or infinite."""
